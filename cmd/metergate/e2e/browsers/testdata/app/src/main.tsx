import { StrictMode } from 'react';
import { createRoot } from 'react-dom/client';
import { Chat as ChatBefore } from '../before/Chat';
import { App } from './App';

const element = document.getElementById('root');
if (!element) throw new Error('the page has no #root');
const root = createRoot(element);
root.render(<StrictMode>{location.hash === '#before' ? <ChatBefore /> : <App />}</StrictMode>);
Object.assign(window, { root }); // for the tests
