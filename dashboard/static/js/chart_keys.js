// The keys of the chart's page.

import { SWITCHES } from './tools.js';
import { FRAMES } from './view.js';

export function actsOf(page) {
  const { chart } = page;
  const acts = {
    ArrowLeft: () => chart.scroll(-10), ArrowRight: () => chart.scroll(10), '+': () => chart.zoom(0.8), '=': () => chart.zoom(0.8),
    '-': () => chart.zoom(1.25), End: () => chart.toNewest(), Home: () => chart.toOldest(),
    '/': () => page.picker.field.focus(), '[': () => page.step(-1), ']': () => page.step(1),
  };
  for (const [, names, letter] of SWITCHES) acts[letter] = () => page.flip(names);
  Object.keys(FRAMES).forEach((frame, i) => { acts[i + 1] = () => page.show(frame); });
  return acts;
}
