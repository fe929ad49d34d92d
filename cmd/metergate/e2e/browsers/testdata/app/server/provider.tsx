// A provider whose getToken is a new function in each render. `signIn` changes the user.
import { Component, StrictMode, useEffect, useState } from 'react';
import type { ReactNode } from 'react';
import { createRoot } from 'react-dom/client';
import type { UsageClient } from '@metergate/client';
import { UsageMeter, UsageProvider, useUsage } from '@metergate/client/react';
import { gateway } from '../src/session';

const clients = new Set<UsageClient>();
const answers = new Set<unknown>();
const texts = { compact: () => 'Some' };

function Watch({ token }: { token: string | null }) {
  const { usage, problem, client, canSend, connection } = useUsage();
  useEffect(() => {
    if (client) clients.add(client);
    answers.add(canSend);
  }, [client, canSend]);
  // An effect of a child, which runs before those of the provider.
  useEffect(() => { void client?.refresh(); }, [client, token]);
  return <p>{`${usage?.user ?? 'nobody'} ${usage?.used ?? '-'} ${problem ?? 'fine'} ${connection}`}</p>;
}

class Boundary extends Component<{ children: ReactNode }> {
  override state = { message: '' };
  static getDerivedStateFromError(error: Error) { return { message: error.message }; }
  override render() { return this.state.message ? <b>{this.state.message}</b> : this.props.children; }
}

function Page() {
  const [token, setToken] = useState(new URLSearchParams(location.search).get('token'));
  const [times, setTimes] = useState(0);
  Object.assign(window, {
    signIn: setToken,
    render: () => { setTimes((n) => n + 1); },
    clients: () => clients.size,
    answers: () => answers.size,
    times,
  });
  return (
    <>
      <UsageProvider baseUrl={gateway} getToken={() => token}>
        <Watch token={token} />
        <UsageMeter compact label="Calls" className="small" data-times={times} upgradeUrl={times > 2 ? undefined : 'https://example.com/more'} messages={times > 2 ? undefined : texts} />
      </UsageProvider>
      <Boundary><Watch token={null} /></Boundary>
    </>
  );
}

const element = document.getElementById('root');
if (!element) throw new Error('the page has no #root');
createRoot(element).render(<StrictMode><Page /></StrictMode>);
