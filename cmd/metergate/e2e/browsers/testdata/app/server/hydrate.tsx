// Takes over what a server has rendered. React reports differences to the console.
import { StrictMode } from 'react';
import { hydrateRoot } from 'react-dom/client';
import { App } from '../src/App';

const element = document.getElementById('root');
if (!element) throw new Error('the page has no #root');
hydrateRoot(element, <StrictMode><App /></StrictMode>, {
  onRecoverableError: (error) => { console.error('recovered from', error); },
});
