// react-upgrade.js is the part of react.js that shows <usage-upgrade>.

import './upgrade.js';
import { componentOf } from './react-component.js';

export const UpgradeDialog = componentOf('usage-upgrade', 'UpgradeDialog');
