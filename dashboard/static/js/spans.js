// Shaded spans behind the candles: what is missing (will be fetched), what is explained, what is still being filled.
// A primitive of the chart library: https://tradingview.github.io/lightweight-charts/docs/plugins/series-primitives

import { colour } from './theme.js';

class View {
  constructor(owner) { this.owner = owner; }
  zOrder() { return 'bottom'; }
  renderer() { return { draw: (target) => target.useBitmapCoordinateSpace((scope) => this.owner.draw(scope)) }; }
}

export class Spans {
  constructor() {
    this.spans = [];
    this.views = [new View(this)];
  }

  attached({ chart, requestUpdate }) {
    this.chart = chart;
    this.requestUpdate = requestUpdate;
  }

  paneViews() { return this.views; }

  // `spans`: {first, last, state}, positions of candles; fractions are between two.
  set(spans) {
    this.spans = spans;
    this.requestUpdate?.();
  }

  draw({ context, bitmapSize, horizontalPixelRatio: ratio }) {
    const scale = this.chart.timeScale();
    const half = scale.options().barSpacing / 2;
    for (const { first, last, state } of this.spans) {
      const from = scale.logicalToCoordinate(Math.ceil(first));
      const to = scale.logicalToCoordinate(Math.floor(last));
      if (from === null || to === null) continue;
      // between two candles that follow each other there is no place: a mark of 2 pixels at their border
      const left = Math.min(from, to) - half;
      const right = Math.max(from, to) + half;
      const x = Math.round((first > last ? (left + right) / 2 - 1 : left) * ratio);
      const width = Math.max(2 * ratio, Math.round((first > last ? 2 : right - left) * ratio));
      context.fillStyle = colour(`span-${state}`);
      context.fillRect(x, 0, width, bitmapSize.height);
      context.fillStyle = colour(`edge-${state}`);
      context.fillRect(x, 0, width, Math.round(3 * ratio));
    }
  }
}
