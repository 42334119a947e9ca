// The page of the chart: which instrument and time frame, history, the live stream.
import { Chart } from './chart.js';
import { actsOf } from './chart_keys.js';
import { Comparison } from './compare.js';
import { ask, el, parts, rewrite, toast, untilDone } from './dom.js';
import { feedState, troubleOf } from './feed_state.js';
import * as f from './format.js';
import { GapList } from './gap_list.js';
import { session } from './indicators.js';
import { Legend } from './legend.js';
import { Line } from './line.js';
import { Picker } from './picker.js';
import { Tools } from './tools.js';
import { FRAMES, START, address, format, toggled, wanted } from './view.js';

const PAGE = 600; // candles of one request
const QUOTE_S = 60; // an older bid and ask is none
const LOADED_AGAIN = 5000; // the most of one request
let page = null;

const name = (one) => `${one.venue}/${one.product_id}`;

class Page {
  constructor(main, instruments) {
    this.instruments = instruments;
    this.main = main;
    this.picker = new Picker(instruments, (one) => this.go(name(one), this.frame));
    this.buttons = Object.keys(FRAMES).map((frame, i) => el('button', {
      type: 'button', 'data-frame': frame, title: `Key ${i + 1}`, onclick: () => this.show(frame),
    }, frame));
    this.link = el('span.link', { id: 'live', role: 'status' }, 'connecting');
    this.legend = new Legend();
    this.tools = new Tools((names) => this.flip(names), (venue) => this.look({ ...this.view, with: toggled(this.view.with, venue) }));
    this.box = el('div.box', { id: 'chart', role: 'img', 'aria-label': 'Candlestick chart', tabindex: '0' });
    this.empty = el('p.empty', { hidden: true }, 'Nothing is stored of this instrument yet.');
    this.away = el('p.away', { id: 'away', role: 'status', hidden: true });
    this.note = el('p.note', { id: 'note' });
    this.gaps = new GapList();
    main.append(el('div.bar', {}, this.picker.box, el('div.frames', { role: 'group', 'aria-label': 'Time frame' }, this.buttons), this.link), this.tools.box, this.away, this.legend.box,
      el('div.frame', {}, this.box, this.empty), this.note, this.gaps.card);
    this.chart = new Chart(this.box, { onMore: () => this.more(), onHover: (row) => this.say(row) });
    this.comparison = new Comparison(this.chart, this.chart.overlays, (text, quiet) => { if (text && !quiet) toast(text, 'bad'); this.say(this.hovered); });
  }

  go(instrument, frame) { location.hash = address(instrument, frame, this.view ?? START); }

  show(frame) { this.go(name(this.one), frame); }

  // Switch lines on or off; the address follows, so that it can be copied.
  flip(names) { if (this.view) this.look({ ...this.view, view: toggled(this.view.view.filter((one) => one !== 'plain'), ...names) }); }

  look(view) {
    const before = this.view;
    this.view = view;
    rewrite(address(name(this.one), this.frame, view));
    localStorage.setItem('chart', JSON.stringify([this.one.venue, this.one.product_id, this.frame, format(view)]));
    const venues = this.instruments.filter((one) => one.product_id === this.one.product_id && one.venue !== this.one.venue).map((one) => one.venue);
    this.tools.show(view, [...venues, 'consensus']);
    this.chart.setLog(view.view.includes('log'));
    this.chart.overlays.show(view.view);
    this.chart.overlays.quote(view.view.includes('quotes') ? this.quote : null);
    const others = view.with.filter((venue) => venue === 'consensus' || venues.includes(venue));
    if (before !== view) this.comparison.show(this.one, this.frame, others);
    this.say(this.hovered);
    this.whole();
  }

  // VWAP needs its session from the beginning.
  whole() {
    if (!this.view.view.includes('vwap') || !this.hasMore || !this.chart.times.length) return;
    if (session(this.chart.newest(), this.width) < this.chart.oldest()) this.more();
  }

  query() { return { venue: this.one.venue, product: this.one.product_id, frame: this.frame }; }

  begin(one, frame, view) {
    let still;
    untilDone(() => { const opening = this.open(one, frame, view); still = this.still(); return opening; }, () => still());
  }

  // Whether the same chart is open as now.
  still() { const mine = this.opened; return () => this.opened === mine; }

  async open(one, frame, view) {
    this.close();
    const mine = (this.opened = {});
    [this.newest_us, this.skew_ms, this.quote, this.trouble, this.hovered] = [null, 0, null, '', null];
    [this.one, this.frame, this.width] = [one, frame, FRAMES[frame]];
    document.title = `${one.product_id} ${frame} · Market data`;
    this.picker.choose(one);
    for (const button of this.buttons) button.setAttribute('aria-pressed', button.dataset.frame === frame);
    this.note.textContent = f.CANDLES[one.kind];
    this.stream = this.listen();
    const { candles, more } = await ask('candles', { ...this.query(), limit: PAGE });
    if (this.opened !== mine) return;
    this.hasMore = more;
    this.empty.hidden = candles.length > 0;
    this.chart.start(candles, this.width);
    for (const row of this.early.values()) this.chart.update(row);
    this.early = null;
    this.chart.overlays.draw(!more);
    this.look(view);
    if (!more) this.note.textContent += ` Nothing older is stored: ${candles.length ? `the first is of ${f.at(candles[0][0])}` : 'nothing came yet'}.`;
    this.loadGaps();
  }

  close() {
    this.opened = null;
    this.stream?.close();
    this.comparison.stop();
    this.chart.overlays.clear();
    this.early = new Map();
  }

  listen() {
    this.state('connecting', '');
    const events = {
      candle: ({ candle, received_at_us, ...times }) => { this.time(times); this.take(candle, received_at_us); },
      quote: (quote) => this.takeQuote(quote),
      changed: ({ from, to }) => this.reload(from, to),
      gap: (gap) => this.gap(gap),
      state: ({ live, why, ...times }) => { this.time(times); this.state(why ? 'waiting for the database' : live ? 'live' : 'waiting for the broker', live && !why ? 'up' : 'down', why); },
    };
    return new Line(`/api/stream?${new URLSearchParams(this.query())}`, events, { onDown: () => this.state('reconnecting', 'down'), onBack: () => this.missed() });
  }

  // After an interruption: what came since `newest`; everything anew where that is more than one request brings.
  missed(newest = this.chart.newest()) {
    const still = this.still();
    if (!this.early) untilDone(async () => {
      const { candles, more } = await ask('candles', { ...this.query(), limit: LOADED_AGAIN });
      if (!still()) return;
      if (newest === undefined || (more && candles[0][0] > newest)) this.begin(this.one, this.frame, this.view);
      else { this.chart.merge(candles); this.say(this.hovered); }
      await this.loadGaps();
    }, still);
  }

  // Seconds since 1970 by the dashboard's clock.
  now() { return (Date.now() + this.skew_ms) / 1000; }

  state(text, kind, why = '') {
    [this.linkText, this.linkKind] = [text, kind];
    this.link.title = why ?? '';
    this.away.textContent = why ? `The candles stand still: ${why}` : '';
    this.away.hidden = !why;
    this.tick();
  }

  // The newest tick's time, and the clock that it is compared with: a browser's may be another.
  time({ newest_us, now_us }) {
    this.newest_us = newest_us || this.newest_us;
    this.skew_ms = now_us / 1000 - Date.now();
  }

  takeQuote(quote) {
    this.quote = quote;
    this.skew_ms = quote.now_us / 1000 - Date.now();
    if (this.early) return;
    if (this.view.view.includes('quotes')) this.chart.overlays.quote(quote);
    if (!this.hovered) this.say(null);
  }

  // Each second: how old the newest tick is.
  tick() {
    const now_s = this.now();
    const since = (at_us) => (at_us ? now_s - at_us / 1e6 : null);
    if (since(this.quote?.received_at_us) > QUOTE_S) {
      this.chart.overlays.quote((this.quote = null));
    }
    const [text, kind] = feedState({
      link: { text: this.linkText, kind: this.linkKind }, newest_s: since(this.newest_us), quote_s: since(this.quote?.received_at_us),
      trouble: this.trouble, unit: this.one.kind === 'trades' ? 'trade' : 'quote', now_s,
    });
    if (this.link.textContent !== text) this.link.textContent = text;
    this.link.className = `link ${kind}`;
  }

  take(candle, received_at_us) {
    if (this.early) { this.early.set(candle[0], candle); return; }
    this.empty.hidden = true;
    this.chart.update(candle);
    if (!this.hovered) this.say(null);
    if (received_at_us) {
      const delay = Math.round(Date.now() - received_at_us / 1000);
      if (delay >= 0 && delay < 10000) this.link.title = `Newest trade was drawn ${delay} ms after it reached this machine`;
      document.body.dataset.delay = delay;
      document.body.dataset.received = received_at_us;
    }
  }

  async more() {
    if (this.loading || !this.hasMore || !this.chart.times.length) return;
    this.loading = true;
    const mine = this.opened;
    try {
      const { candles, more } = await ask('candles', { ...this.query(), before: this.chart.oldest(), limit: PAGE });
      if (this.opened !== mine) return;
      this.hasMore = more;
      this.chart.overlays.complete = !more;
      this.chart.merge(candles);
      this.comparison.again();
      await this.loadGaps();
    } catch (error) {
      toast(`Older candles did not come: ${error.message}`, 'bad');
    } finally {
      this.loading = false;
    }
    if (this.opened === mine) this.whole();
  }

  // Load a span again that has changed, as far as it is on the chart, until it has come.
  async reload(from, to) {
    const still = this.still();
    await untilDone(async () => {
      const until = Math.min(to, this.now() + 60);
      let begin = this.chart.times.length ? Math.max(from, this.chart.oldest()) : from;
      for (; begin < until; begin += LOADED_AGAIN * this.width) {
        const end = Math.min(until, begin + LOADED_AGAIN * this.width);
        const { candles } = await ask('candles', { ...this.query(), from: Math.floor(begin), to: Math.ceil(end) });
        if (!still()) return;
        if (this.chart.times.length) this.chart.merge(candles);
        else { this.empty.hidden = candles.length > 0; this.chart.start(candles, this.width); }
        this.say(this.hovered);
      }
      await this.loadGaps();
    }, still);
  }

  async gap(gap) {
    toast(f.gap(gap), { opened: 'bad', repaired: 'good', unrepairable: '' }[gap.event]);
    const from = gap.from_us ? gap.from_us / 1e6 : this.chart.newest() - 30 * this.width;
    await this.reload(Math.floor(from / this.width) * this.width, gap.to_us ? gap.to_us / 1e6 + 1 : Date.now() / 1000);
  }

  async loadGaps() {
    if (!this.chart.times.length) return;
    const mine = this.opened;
    const now = Math.floor(Date.now() / 1000); // trades that are missing at the end are missing up to now
    const [gaps, state] = await Promise.all([
      ask('gaps', { ...this.query(), from: this.chart.oldest(), to: Math.max(now, this.chart.newest() + this.width) }),
      ask('state').catch(() => null)]);
    if (this.opened !== mine) return;
    if (JSON.stringify(gaps) !== JSON.stringify(this.chart.gaps)) this.chart.setGaps(gaps);
    this.trouble = troubleOf(state, this.one);
    this.gaps.show(gaps, this.one, state);
  }

  // The legend: the candle under the pointer, otherwise the newest.
  say(hovered) {
    this.hovered = hovered;
    const newest = this.chart.last();
    const row = hovered ?? newest;
    const lines = row ? this.chart.overlays.at(row[0]) : [];
    this.legend.show({ row, newest, lines, quote: this.quote, places: this.chart.places ?? 0, one: this.one, frame: this.frame });
  }

  step(by) {
    const at = this.instruments.findIndex((one) => name(one) === name(this.one));
    const next = this.instruments[(at + by + this.instruments.length) % this.instruments.length];
    this.go(name(next), this.frame);
  }
}

export async function show(main, rest, search, still) {
  const instruments = await ask('instruments');
  if (!still()) return null;
  if (!instruments.length) throw new Error('nothing is stored yet; live trades appear within seconds of the start');
  page = new Page(main, instruments);
  page.begin(...wanted(instruments, rest, search));
  const again = setInterval(refresh, 20000);
  const second = setInterval(() => page?.tick(), 1000);
  return () => { clearInterval(again); clearInterval(second); page.close(); page.chart.remove(); page = null; };
}

// Instruments that appeared meanwhile join the list, and tickers may have become trades.
async function refresh() {
  if (document.hidden || !page) return;
  page.loadGaps().catch(() => {}); // also where nobody announces them
  const found = await ask('instruments').catch(() => null);
  if (!found || !page || JSON.stringify(found) === JSON.stringify(page.instruments)) return;
  const main = page.main;
  page.close();
  page.chart.remove();
  main.replaceChildren();
  page = new Page(main, found);
  const [, rest, search] = parts();
  page.begin(...wanted(found, rest, search));
}

export function update(rest, search) {
  if (!page) return false;
  page.begin(...wanted(page.instruments, rest, search));
  return true;
}

export function key(pressed) {
  const acts = page ? actsOf(page) : {};
  acts[pressed]?.();
  return pressed in acts;
}
