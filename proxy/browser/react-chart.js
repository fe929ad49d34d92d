// Code generated from src by go generate ./proxy/browser; DO NOT EDIT.

// react-chart.js is the part of react.js that shows <usage-chart>.


// src/react-chart.js
import "./chart.js";
import { componentOf } from "./react-component.js";
var UsageChart = componentOf("usage-chart", "UsageChart");
export {
  UsageChart
};
