// react-meter.js is the part of react.js that shows <usage-meter>.

import './meter.js';
import { componentOf } from './react-component.js';

export const UsageMeter = componentOf('usage-meter', 'UsageMeter');
