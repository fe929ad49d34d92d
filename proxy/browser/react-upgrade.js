// Code generated from src by go generate ./proxy/browser; DO NOT EDIT.

// react-upgrade.js is the part of react.js that shows <usage-upgrade>.


// src/react-upgrade.js
import "./upgrade.js";
import { componentOf } from "./react-component.js";
var UpgradeDialog = componentOf("usage-upgrade", "UpgradeDialog");
export {
  UpgradeDialog
};
