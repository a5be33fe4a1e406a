// The run as the page got it: columns, the orders they are searched in, and words about each item.
// Nothing here draws, and nothing here changes after the page has loaded.

const run = JSON.parse(document.getElementById("run").textContent);

const lanes = run.lanes.map(([name, kind]) => ({ name, kind: run.lane_kinds[kind] }));

const events = {
  count: run.events.at.length,
  at: Float64Array.from(run.events.at),
  lane: Uint16Array.from(run.events.lane),
  kind: Uint8Array.from(run.events.kind),
  text: run.events.text,
};

const arrows = {
  count: run.arrows.sent.length,
  sent: Float64Array.from(run.arrows.sent),
  /** NaN: it never arrived, or nobody saw it. */
  arrived: Float64Array.from(run.arrows.arrived, (at) => at ?? NaN),
  from: Uint16Array.from(run.arrows.from),
  to: Uint16Array.from(run.arrows.to),
  verdict: Uint8Array.from(run.arrows.verdict),
  label: run.arrows.label,
  detail: run.arrows.detail,
};

const spans = run.spans.map(([from, to, kind, where, label]) => ({
  from, to: to ?? run.end, ends: to !== null, kind: run.span_kinds[kind], lanes: where, label,
}));
const isFault = (span) => span.kind !== "leader" && span.kind !== "phase";
const faults = spans.filter(isFault);
const leaders = spans.filter((span) => span.kind === "leader");
const phases = spans.filter((span) => span.kind === "phase");

const violations = run.violations.map(([at, checker, where, text]) => ({
  at, checker, lanes: where, text,
}));

/** Stretches of time of which a part was left out: from, to, how many. */
const thinned = run.thinned_events.concat(run.thinned_arrows).sort((a, b) => a[0] - b[0]);

/** Place of the first of `sorted` that is not below `value`. */
function lowerBound(sorted, value, low = 0, high = sorted.length) {
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** For each lane, its events in the order of time: places in `events`, and their times. */
const laneEvents = (() => {
  const sizes = new Uint32Array(lanes.length);
  for (let i = 0; i < events.count; i++) sizes[events.lane[i]]++;
  const lists = Array.from(sizes, (size) => ({
    place: new Uint32Array(size), at: new Float64Array(size), size: 0,
  }));
  for (let i = 0; i < events.count; i++) {
    const list = lists[events.lane[i]];
    list.place[list.size] = i;
    list.at[list.size++] = events.at[i];
  }
  return lists;
})();

/** Arrows are sorted by departure. Per block of them, the last arrival: what may be passed over. */
const ARROW_BLOCK = 256;
const blockArrived = (() => {
  const blocks = new Float64Array(Math.ceil(arrows.count / ARROW_BLOCK)).fill(-Infinity);
  for (let i = 0; i < arrows.count; i++) {
    const block = Math.floor(i / ARROW_BLOCK);
    const there = Number.isNaN(arrows.arrived[i]) ? arrows.sent[i] : arrows.arrived[i];
    blocks[block] = Math.max(blocks[block], there);
  }
  return blocks;
})();

/** Calls `each` with every arrow that is under way at some time of `from..to`. */
function arrowsWithin(from, to, each) {
  const end = lowerBound(arrows.sent, to);
  for (let block = 0; block * ARROW_BLOCK < end; block++) {
    if (blockArrived[block] < from) continue;
    const stop = Math.min(end, (block + 1) * ARROW_BLOCK);
    for (let i = block * ARROW_BLOCK; i < stop; i++) {
      const there = Number.isNaN(arrows.arrived[i]) ? arrows.sent[i] : arrows.arrived[i];
      if (there >= from) each(i);
    }
  }
}

// An item is a number, so that sets of them are small: an event is its place, an arrow is ~place.
const isArrow = (item) => item < 0;
const itemAt = (item) => (isArrow(item) ? arrows.sent[~item] : events.at[item]);

/** All events and arrows in the order of time: the transcript. */
const story = (() => {
  const items = new Int32Array(events.count + arrows.count);
  let event = 0, arrow = 0;
  for (let i = 0; i < items.length; i++) {
    const takeEvent = arrow >= arrows.count
      || (event < events.count && events.at[event] <= arrows.sent[arrow]);
    items[i] = takeEvent ? event++ : ~arrow++;
  }
  return items;
})();

const laneName = (lane) => lanes[lane].name;
const laneNames = (where) => (where.length ? where.map(laneName).join(", ") : "everywhere");

/** Seconds with so many decimals, as the trace writes them. */
const seconds = (ns, decimals = 9) => (ns / 1e9).toFixed(decimals);

/** 12345 as "12 345", with a narrow space that does not break. */
const grouped = (number) => number.toLocaleString("en").replaceAll(",", "\u202f");

/** A length of time in the unit that suits it. */
function lasting(ns) {
  const units = [[1e9, "s"], [1e6, "ms"], [1e3, "µs"], [1, "ns"]];
  const [size, unit] = units.find(([size]) => Math.abs(ns) >= size) ?? units[3];
  const value = ns / size;
  const decimals = value >= 100 ? 0 : value >= 10 ? 1 : 2;
  return `${Number(value.toFixed(decimals))} ${unit}`;
}

/** What a search looks at, and a row of the transcript shows. */
function itemText(item) {
  if (!isArrow(item)) return events.text[item];
  const i = ~item;
  const detail = arrows.detail[i] ? ` · ${arrows.detail[i]}` : "";
  return `→ ${laneName(arrows.to[i])}  ${arrows.label[i]}${detail}`;
}

const itemLane = (item) => (isArrow(item) ? arrows.from[~item] : events.lane[item]);
