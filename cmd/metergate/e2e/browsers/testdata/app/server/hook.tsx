// An app that shows the numbers itself: it uses no element.
import { createRoot } from 'react-dom/client';
import { UsageProvider, useUsage } from '@metergate/client/react';
import { gateway, getToken } from '../src/session';

function Count() {
  const { usage } = useUsage();
  return <p>{usage?.used}</p>;
}

const element = document.getElementById('root');
if (element) createRoot(element).render(<UsageProvider baseUrl={gateway} getToken={getToken}><Count /></UsageProvider>);
