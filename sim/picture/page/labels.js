// Words in the drawing: on spans, under marks, along arrows. No label covers another; where there is
// no room there is none, and the transcript has it all.

const LABEL_FONT = "11px system-ui, 'Segoe UI', Roboto, 'Liberation Sans', sans-serif";
/** Rows at least so high have an event's words below its mark, others beside it. */
const LABEL_ROW_MIN = 30;
/** Words cut to less than this say too little. */
const READABLE_PX = 80;
/** More arrows than this in view: only those with a rare verdict are named. */
const ARROWS_NAMED = 90;
const ARROWS_RARE = 10;

/** Where labels lie already, in cells, so that none covers another. */
const taken = {
  cells: new Uint8Array(0), columns: 0, rows: 0,
  clear() {
    this.columns = Math.ceil(view.width / 6) + 1;
    this.rows = Math.ceil(view.height / 13) + 1;
    const size = this.columns * this.rows;
    if (this.cells.length < size) this.cells = new Uint8Array(size);
    else this.cells.fill(0);
  },
  /** Takes the place for a text that begins at x, with its middle at y; false if it is taken. */
  take(x, y, width) {
    const first = Math.max(0, Math.floor(x / 6)), last = Math.ceil((x + width) / 6);
    if (x < 0 || last >= this.columns) return false;
    // A text lies across two rows of cells, unless it happens to fit into one.
    const rows = new Set([Math.floor((y - 6) / 13), Math.floor((y + 5) / 13)]);
    for (const row of rows) {
      if (row < 0 || row >= this.rows) return false;
      const start = row * this.columns;
      for (let i = start + first; i <= start + last; i++) if (this.cells[i]) return false;
    }
    for (const row of rows) this.cells.fill(1, row * this.columns + first, row * this.columns + last + 1);
    return true;
  },
};

const widths = new Map();
/** Width of a label; texts repeat, so they are measured once. */
function widthOf(text) {
  let width = widths.get(text);
  if (width === undefined) {
    if (widths.size > 20000) widths.clear();
    width = base.measureText(text).width;
    widths.set(text, width);
  }
  return width;
}

const shortened = (text, length = 44) =>
  text.length > length ? `${text.slice(0, length - 1)}…` : text;

/** As much of a text as fits into so many pixels, or nothing if that says too little. */
function fitted(text, room) {
  const whole = shortened(text);
  const width = widthOf(whole);
  if (width <= room) return whole;
  return room < READABLE_PX ? "" : shortened(whole, Math.floor((whole.length * room) / width) - 1);
}

function write(text, x, y, colour) {
  base.fillStyle = colour;
  base.strokeText(text, x, y);
  base.fillText(text, x, y);
}

/** Texts, the weightier first: spans, then events, then arrows; where there is no room, none. */
function paintLabels(crowded) {
  base.strokeStyle = colours.surface;
  base.lineWidth = 3;
  const told = new Set();
  for (const { span, lane, left, top, width, height } of drawn.spans) {
    const x = Math.max(4, left + 5);
    const text = shortened(span.label, 60);
    const leader = span.kind === "leader";
    if (leader && widthOf(text) > left + width - x) continue;
    const y = leader ? top - 3 : top + Math.min(9, height / 2);
    if (height < 10 || !taken.take(x, y, widthOf(text))) continue;
    told.add(`${lane} ${span.label}`);
    write(text, x, y, leader ? colours.raft : colours.fault);
  }
  paintEventLabels(told);
  paintArrowLabels(crowded);
}

/** An event is named by as many of its words as end before the next event of its lane, if those
    are enough to be read; urgent ones always and whole. */
function paintEventLabels(told) {
  if (drawn.events.length > 2500) return;
  const rightOf = new Float32Array(lanes.length).fill(Infinity);
  for (const { item, x, y } of drawn.events.toReversed()) {
    const lane = events.lane[item];
    const next = rightOf[lane];
    rightOf[lane] = x;
    if (view.row[lane] < ROW_MIN || !isKept(lane)) continue;
    if (view.found && !view.foundSet.has(item)) continue;
    const urgent = keepsMark[events.kind[item]];
    if (told.has(`${lane} ${events.text[item]}`)) continue;
    const [dx, dy] = view.row[lane] < LABEL_ROW_MIN ? [9, 0.5] : [-3, 14];
    const room = Math.min(next - 7, view.width - 8) - x - dx;
    const text = urgent ? shortened(events.text[item]) : fitted(events.text[item], room);
    if (!text || !taken.take(x + dx, y + dy, widthOf(text))) continue;
    const accuses = eventMarks[events.kind[item]].colour === "violation";
    write(text, x + dx, y + dy, accuses ? colours.violation : colours.text);
  }
}

/** A frame is named once for each leg of its way, however many heard it. */
function paintArrowLabels(crowded) {
  const named = new Set();
  const counts = new Uint32Array(arrowLooks.length);
  for (const { item } of drawn.arrows) counts[arrows.verdict[~item]]++;
  const all = !crowded && drawn.arrows.length <= ARROWS_NAMED;
  const speaks = arrowLooks.map((look, verdict) =>
    all || (!look.calm && counts[verdict] <= ARROWS_RARE));
  for (const { item, x1, y1, x2, y2 } of drawn.arrows) {
    const i = ~item;
    const look = arrowLooks[arrows.verdict[i]];
    if (view.found ? !view.foundSet.has(item) : !speaks[arrows.verdict[i]]) continue;
    if (Math.abs(y2 - y1) < 30) continue;
    const key = `${arrows.label[i]} ${lanes[arrows.from[i]].kind} ${Math.round(x1 / 60)} ${look.name}`;
    if (named.has(key)) continue;
    const text = shortened(arrows.label[i], 30);
    const width = widthOf(text);
    for (const part of [0.5, 0.35, 0.65]) {
      const x = x1 + (x2 - x1) * part + 5, y = y1 + (y2 - y1) * part;
      if (!taken.take(x, y, width)) continue;
      named.add(key);
      write(text, x, y, colours[look.colour]);
      break;
    }
    if (named.size > 200) return;
  }
}
