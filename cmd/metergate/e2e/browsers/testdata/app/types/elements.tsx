// Not built: what TypeScript must accept of the elements, in React 18 and 19.
import { useRef } from 'react';
import type { UsageClient } from '@metergate/client';
import type { UsageMeter as UsageMeterElement } from '@metergate/client/meter';
import { UsageMeter, UsageProvider, useUsage } from '@metergate/client/react';

export function Elements({ client }: { client: UsageClient }) {
  const meter = useRef<UsageMeterElement>(null);
  const { canSend, connection, problem } = useUsage();
  const fromTagName: UsageMeterElement | null = document.querySelector('usage-meter');
  if (fromTagName) fromTagName.client = client;
  return (
    <UsageProvider client={client}>
      <UsageMeter
        ref={meter}
        compact
        price="analyze report"
        theme="dark"
        className="sidebar"
        messages={{ upgrade: 'Get more' }}
        aria-disabled={!canSend()}
        title={`${connection} ${problem ?? ''}`}
        onUpgrade={(event) => {
          event.preventDefault();
          console.log(event.detail.url, event.detail.state?.used);
        }}
      >
        <button slot="upgrade" onClick={() => meter.current?.focus()}>
          Get more
        </button>
      </UsageMeter>
      {/* @ts-expect-error: such an attribute does not exist */}
      <UsageMeter big />
      <usage-meter compact base-url="https://gateway.example.com" label="Calls" class="x" id="y" />
      {/* @ts-expect-error: the number of days is not a property of the meter */}
      <usage-meter days={7} />
    </UsageProvider>
  );
}
