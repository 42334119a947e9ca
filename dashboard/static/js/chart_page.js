// The page of the chart: which instrument and time frame, history, the live stream, the list of gaps.

import { Chart } from './chart.js';
import { ask, el, toast } from './dom.js';
import * as f from './format.js';

const FRAMES = { '1m': 60, '5m': 300, '15m': 900, '30m': 1800, '1h': 3600, '4h': 14400, '12h': 43200, '1d': 86400 };
const PAGE = 600; // candles of one request
const LOADED_AGAIN = 5000; // the most that one repair loads again
// Where no gaps does not mean that nothing is missing.
const NO_GAPS = { sampled: 'Samples: somebody listened all the time.', null: 'Nothing shows whether it is complete.' };
let page = null;

const name = (one) => `${one.venue}/${one.product_id}`;

class Page {
  constructor(main, instruments) {
    this.instruments = instruments;
    this.main = main;
    const venues = [...new Set(instruments.map((one) => one.venue))];
    this.select = el('select', { 'aria-label': 'Instrument', onchange: () => this.go(this.select.value, this.frame) },
      venues.map((venue) => el('optgroup', { label: venue }, instruments.filter((one) => one.venue === venue)
        .map((one) => el('option', { value: name(one) }, `${one.product_id} · ${venue}`)))));
    this.buttons = Object.keys(FRAMES).map((frame, i) => el('button', {
      type: 'button', 'data-frame': frame, title: `Key ${i + 1}`, onclick: () => this.go(name(this.one), frame),
    }, frame));
    this.link = el('span.link', { id: 'live', role: 'status' }, 'connecting');
    this.price = el('div.price', { id: 'price' });
    this.legend = el('dl.legend', { id: 'legend', 'aria-label': 'Candle' });
    this.box = el('div.box', { id: 'chart', role: 'img', 'aria-label': 'Candlestick chart', tabindex: '0' });
    this.empty = el('p.empty', { hidden: true }, 'Nothing is stored of this instrument yet.');
    this.away = el('p.away', { id: 'away', role: 'status', hidden: true });
    this.note = el('p.note', { id: 'note' });
    this.gapList = el('ul.gaps', { id: 'gaps' });
    this.gapHead = el('h2', { id: 'gap-head' }, 'Gaps');
    main.append(
      el('div.bar', {}, this.select, el('div.frames', { role: 'group', 'aria-label': 'Time frame' }, this.buttons), this.link),
      this.away,
      el('div.read', {}, this.price, this.legend),
      el('div.frame', {}, this.box, this.empty),
      this.note,
      el('section.card', { 'aria-labelledby': 'gap-head' }, this.gapHead, this.gapList),
    );
    this.chart = new Chart(this.box, { onMore: () => this.more(), onHover: (row) => this.say(row) });
  }

  go(instrument, frame) { location.hash = `#/chart/${instrument.split('/').map(encodeURIComponent).join('/')}/${frame}`; }

  query() { return { venue: this.one.venue, product: this.one.product_id, frame: this.frame }; }

  async open(one, frame) {
    this.close();
    const mine = (this.opened = {});
    this.heard = Date.now();
    [this.one, this.frame, this.width] = [one, frame, FRAMES[frame]];
    localStorage.setItem('chart', JSON.stringify([one.venue, one.product_id, frame]));
    document.title = `${one.product_id} ${frame} · Market data`;
    this.select.value = name(one);
    for (const button of this.buttons) button.setAttribute('aria-pressed', button.dataset.frame === frame);
    this.note.textContent = {
      trades: 'Candles of trades, times in UTC.',
      tickers: 'Candles of the bid: only tickers have arrived of this product so far. Times in UTC.',
      quotes: 'Candles of the bid, volume is the sum of the bid sizes. Times in UTC.',
    }[one.kind];
    this.listen(mine);
    const { candles, more } = await ask('candles', { ...this.query(), limit: PAGE });
    if (this.opened !== mine) return;
    this.hasMore = more;
    this.empty.hidden = candles.length > 0;
    this.chart.start(candles, this.width);
    for (const row of this.early.values()) this.chart.update(row);
    this.early = null;
    this.say(null);
    this.loadGaps();
  }

  close() {
    this.opened = null;
    this.stream?.close();
    this.early = new Map();
  }

  listen(mine) {
    const stream = (this.stream = new EventSource(`/api/stream?${new URLSearchParams(this.query())}`));
    this.state('connecting', '');
    const on = (event, act) => stream.addEventListener(event, (message) => {
      if (this.opened === mine) act(JSON.parse(message.data));
    });
    on('candle', ({ candle, received_at_us }) => this.take(candle, received_at_us));
    on('changed', ({ from, to }) => this.reload(from, to));
    on('gap', (gap) => this.gap(gap));
    on('state', ({ live, why }) => this.state(why ? 'waiting for the database' : live ? 'live' : 'waiting for the broker', live && !why ? 'up' : 'down', why));
    stream.onerror = () => { if (this.opened === mine) this.state('reconnecting', 'down'); };
    let opened = false;
    stream.onopen = () => { // after an interruption: what was missed
      if (opened && this.opened === mine && !this.early) this.reload(this.chart.newest() - 10 * this.width, Date.now() / 1000 + 60);
      opened = true;
    };
  }

  state(text, kind, why = '') {
    [this.linkText, this.linkKind] = [text, kind];
    this.link.title = why ?? '';
    this.away.textContent = why ? `The candles stand still: ${why}` : '';
    this.away.hidden = !why;
    this.tick();
  }

  // Each second: a live product that has been silent says so, and so does what only has a past.
  tick() {
    let [text, kind] = [this.linkText, this.linkKind];
    const silent = (Date.now() - (this.heard ?? Date.now())) / 1000;
    const past = this.chart.times.length && Date.now() / 1000 - this.chart.newest() - this.width > 86400;
    if (kind === 'up' && past) [text, kind] = ['history', ''];
    else if (kind === 'up' && silent > 15) [text, kind] = [`live, nothing for ${f.age(silent)}`, 'quiet'];
    if (this.link.textContent !== text) this.link.textContent = text;
    this.link.className = `link ${kind}`;
  }

  take(candle, received_at_us) {
    if (this.early) { this.early.set(candle[0], candle); return; }
    this.empty.hidden = true;
    this.heard = Date.now();
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
      this.chart.merge(candles);
      await this.loadGaps();
    } catch (error) {
      toast(`Older candles did not come: ${error.message}`, 'bad');
    } finally {
      this.loading = false;
    }
  }

  // Load a span again that a repair or a load has changed, as far as it is on the chart.
  async reload(from, to) {
    const mine = this.opened;
    const begin = this.chart.times.length ? Math.max(from, this.chart.oldest()) : from;
    const span = Math.min(to, begin + LOADED_AGAIN * this.width);
    if (span > begin) {
      const { candles } = await ask('candles', { ...this.query(), from: Math.floor(begin), to: Math.ceil(span) });
      if (this.opened !== mine) return;
      if (this.chart.times.length) this.chart.merge(candles);
      else { this.empty.hidden = candles.length > 0; this.chart.start(candles, this.width); }
    }
    await this.loadGaps();
  }

  async gap(gap) {
    const ids = gap.first_id === null ? '' : ` ${f.count(gap.last_id - gap.first_id + 1)} trades`;
    const words = { opened: `Gap found:${ids}, being fetched`, repaired: `Gap repaired:${ids}`, unrepairable: `Gap explained:${ids}, ${f.reason(gap.reason)}` };
    toast(words[gap.event], { opened: 'bad', repaired: 'good', unrepairable: '' }[gap.event]);
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
    const shown = gaps.filter((gap) => gap.state !== 'partial').slice(0, 50);
    const open = gaps.filter((gap) => gap.state === 'missing').length;
    const claim = state?.instruments.find((one) => one.venue === this.one.venue && one.product_id === this.one.product_id && one.kind === this.one.kind);
    const doubt = !state ? 'nobody could be asked' : claim?.unknown ? claim.complete : '';
    this.gapHead.textContent = `Gaps${open ? `: ${open} open` : ''}${doubt ? `: ${doubt}` : ''}`;
    this.gapHead.className = doubt ? 'warn' : '';
    const unit = this.one.kind === 'trades' ? 'trades' : 'hours';
    this.gapList.replaceChildren(...shown.map((gap) => el(`li.${gap.state}`, {},
      el('i', { 'aria-hidden': true }),
      el('span', {}, gap.state === 'missing' ? 'missing' : this.one.proof === 'sampled' ? 'missed' : 'explained'),
      el('span', {}, gap.count ? `${f.count(gap.count)} ${gap.count === 1 ? unit.slice(0, -1) : unit}` : ''),
      el('time', {}, `${f.at(gap.from_s)}${this.one.kind === 'trades' ? `:${f.clock(gap.from_s).slice(-2)}` : ''} – ${f.day(gap.from_s) === f.day(gap.to_s) ? f.clock(gap.to_s) : f.at(gap.to_s)}`),
      el('span.why', {}, f.reason(gap.reason)))));
    if (!shown.length) this.gapList.append(el('li.none', {}, doubt ? 'None is known of.' : NO_GAPS[this.one.proof] ?? 'None: everything in this span is stored or never existed.'));
  }

  // The legend: the candle under the pointer, otherwise the newest.
  say(hovered) {
    this.hovered = hovered;
    const row = hovered ?? this.chart.last();
    const newest = this.chart.last();
    if (!row) { this.legend.replaceChildren(); this.price.replaceChildren(); return; }
    const places = this.chart.places ?? 0;
    const [time, open, high, low, close, volume, vwap, ticks] = row;
    const parts = [['', f.at(time)], ['O', f.price(open, places)], ['H', f.price(high, places)], ['L', f.price(low, places)],
      ['C', f.price(close, places)], ['Vol', f.amount(volume)]];
    if (vwap) parts.push(['VWAP', f.price(Number(vwap).toFixed(Math.min(8, places + 1)))]);
    parts.push([this.one.kind === 'trades' ? 'Trades' : 'Quotes', f.count(ticks)]);
    this.legend.replaceChildren(...parts.map(([label, text]) => el('div', {}, el('dt', {}, label), el('dd', {}, text))));
    this.legend.dataset.candle = JSON.stringify(row);
    const move = (Number(newest[4]) / Number(newest[1]) - 1) * 100;
    this.price.replaceChildren(el('b', {}, f.price(newest[4], places)),
      el(`span.${move >= 0 ? 'up' : 'down'}`, {}, `${move >= 0 ? '+' : '−'}${Math.abs(move).toFixed(2)} % in this ${this.frame}`));
  }

  step(by) {
    const at = this.instruments.findIndex((one) => name(one) === name(this.one));
    const next = this.instruments[(at + by + this.instruments.length) % this.instruments.length];
    this.go(name(next), this.frame);
  }
}

function wanted(instruments, rest) {
  const saved = JSON.parse(localStorage.getItem('chart') ?? 'null') ?? [];
  const [venue, product, frame] = rest.length ? rest : saved;
  const find = (v, p) => instruments.find((one) => one.venue === v && one.product_id === p);
  const one = find(venue, product) ?? instruments.find((i) => i.kind === 'trades' && i.product_id.startsWith('BTC-')) ?? instruments[0];
  return [one, frame in FRAMES ? frame : '1m'];
}

export async function show(main, rest) {
  const instruments = await ask('instruments');
  if (!instruments.length) throw new Error('nothing is stored yet; live trades appear within seconds of the start');
  page = new Page(main, instruments);
  await page.open(...wanted(instruments, rest));
  const again = setInterval(refresh, 20000);
  const second = setInterval(() => page?.tick(), 1000);
  return () => { clearInterval(again); clearInterval(second); page.close(); page.chart.remove(); page = null; };
}

// Instruments that appeared meanwhile join the list.
async function refresh() {
  if (document.hidden || !page) return;
  page.loadGaps().catch(() => {}); // also where nobody announces them
  const found = await ask('instruments').catch(() => null);
  if (!found || !page || found.length === page.instruments.length) return;
  const main = page.main;
  page.close();
  page.chart.remove();
  main.replaceChildren();
  page = new Page(main, found);
  const [, ...rest] = location.hash.replace(/^#\//, '').split('/').map(decodeURIComponent);
  await page.open(...wanted(found, rest));
}

export function update(rest) {
  if (!page) return false;
  page.open(...wanted(page.instruments, rest)).catch((error) => toast(error.message, 'bad'));
  return true;
}

export function key(pressed) {
  if (!page) return false;
  const frames = Object.keys(FRAMES);
  const acts = {
    ArrowLeft: () => page.chart.scroll(-10), ArrowRight: () => page.chart.scroll(10), '+': () => page.chart.zoom(0.8),
    '=': () => page.chart.zoom(0.8), '-': () => page.chart.zoom(1.25), End: () => page.chart.toNewest(),
    '[': () => page.step(-1), ']': () => page.step(1),
  };
  if (/^[1-8]$/.test(pressed)) acts[pressed] = () => page.go(name(page.one), frames[pressed - 1]);
  acts[pressed]?.();
  return pressed in acts;
}
