// Not built: what TypeScript must accept of the elements, in React 18 and 19.
import { useRef } from 'react';
import type { UsageClient } from '@metergate/client';
import type { UsageChart as UsageChartElement } from '@metergate/client/chart';
import { messages } from '@metergate/client/messages';
import type { UsageMeter as UsageMeterElement } from '@metergate/client/meter';
import { UpgradeDialog, UsageChart, UsageMeter, UsageProvider, useUsage } from '@metergate/client/react';
import type { UsageUpgrade as UsageUpgradeElement } from '@metergate/client/upgrade';

export function Elements({ client }: { client: UsageClient }) {
  const meter = useRef<UsageMeterElement>(null);
  const chart = useRef<UsageChartElement>(null);
  const dialog = useRef<UsageUpgradeElement>(null);
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
      <UsageChart ref={chart} days={7} label="This week" messages={messages.de} style={{ width: 240 }} />
      {/* @ts-expect-error: the chart has no dialog */}
      <UsageChart onUpgrade={() => {}} />
      <UpgradeDialog
        ref={dialog}
        upgradeUrl="https://example.com"
        onClose={() => dialog.current?.show('analyze')}
        onUpgrade={(event) => { event.preventDefault(); }}
      />
      <usage-chart days={7} label="This week" />
      <usage-upgrade upgrade-url="https://example.com" />
      <usage-meter compact base-url="https://gateway.example.com" label="Calls" class="x" id="y" />
      {/* @ts-expect-error: the number of days is not a property of the meter */}
      <usage-meter days={7} />
    </UsageProvider>
  );
}
