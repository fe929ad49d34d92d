// react-chart.js is the part of react.js that shows <usage-chart>.

import './chart.js';
import { componentOf } from './react-component.js';

export const UsageChart = componentOf('usage-chart', 'UsageChart');
