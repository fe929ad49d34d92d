// Prints the app as a server renders it.
import { StrictMode } from 'react';
import { renderToString } from 'react-dom/server';
import { App } from '../src/App';

console.log(renderToString(<StrictMode><App /></StrictMode>));
