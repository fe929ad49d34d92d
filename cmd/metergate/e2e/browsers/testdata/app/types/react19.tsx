// Not built: what TypeScript must accept in React 19, which sets properties of elements.
import { useUsage } from '@metergate/client/react';

export function Meter() {
  const { client } = useUsage();
  return <usage-meter compact client={client} messages={{ upgrade: 'Get more' }} />;
}
