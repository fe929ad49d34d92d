// Code generated from src by go generate ./proxy/browser; DO NOT EDIT.

// react-meter.js is the part of react.js that shows <usage-meter>.


// src/react-meter.js
import "./meter.js";
import { componentOf } from "./react-component.js";
var UsageMeter = componentOf("usage-meter", "UsageMeter");
export {
  UsageMeter
};
