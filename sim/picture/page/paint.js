// Draws the lanes: everything that changes with the view. Only what is in view is visited. Where
// there is more than can be told apart, events become bars (how many, logarithmic; the colour of
// what there is most of), arrows fade the more of one verdict there are, and at last become a ground
// whose shade tells how many. What is rare stands out; faults and violations never fade.

const base = element("base").getContext("2d");

/** More events than one in so many pixels of a lane: bars. */
const CROWDED_PX = 11;
/** More arrows than this in view: a crowd, of which only rare verdicts are drawn one by one. */
const ARROWS_PLAIN = 1000;
/** Width of a slice of the crowd. */
const CROWD_PX = 2;
/** More arrows of one verdict than this: they fade; than twice this: they have no heads. */
const ARROWS_STRONG = 150;
/** Strokes in one path: long paths are slow to fill. */
const STROKES_AT_ONCE = 100;

/** What was drawn and can be pointed at: item, then its line or its place. */
const drawn = { arrows: [], events: [], spans: [] };

function paintBase() {
  base.clearRect(0, 0, view.width, view.height);
  base.font = LABEL_FONT;
  base.textBaseline = "middle";
  base.lineJoin = "round";
  drawn.arrows = [];
  drawn.events = [];
  drawn.spans = [];
  taken.clear();
  paintLanes();
  paintViolationBands();
  const inView = arrowsInView();
  // Faults lie over a crowd, which would bury them, and under what is drawn one by one.
  if (inView.crowd) paintCrowd(inView.crowd);
  paintSpans();
  for (const { look, all } of inView.drawn) paintVerdict(look, all);
  paintEvents();
  paintViolationLines();
  paintLabels(inView.crowd !== null);
}

const isRowInView = (lane) => {
  const y = view.top[lane] - scroller.scrollTop;
  return y + view.row[lane] >= 0 && y <= view.height;
};

function paintLanes() {
  const left = Math.max(0, xOf(0)), right = Math.min(view.width, xOf(run.end));
  base.lineWidth = 1;
  for (let lane = 0; lane < lanes.length; lane++) {
    if (!isRowInView(lane)) continue;
    if (lane > 0 && lanes[lane].kind !== lanes[lane - 1].kind) {
      base.fillStyle = colours.faint;
      base.fillRect(0, Math.round(view.top[lane] - scroller.scrollTop), view.width, 1);
    }
    base.fillStyle = colours.lane;
    base.fillRect(left, Math.round(yOf(lane)), right - left, 1);
  }
  base.fillStyle = colours.line;
  for (const phase of phases) {
    if (phase.from > 0) base.fillRect(Math.round(xOf(phase.from)), 0, 1, view.height);
  }
}

/** Rows that a span covers: top and height on the stage. */
function spanRows(span) {
  if (span.lanes.length === 0) return [[-scroller.scrollTop, view.total, -1]];
  return span.lanes.map((lane) => {
    const inset = Math.min(4, view.row[lane] * 0.12);
    return [view.top[lane] - scroller.scrollTop + inset, view.row[lane] - 2 * inset, lane];
  });
}

function paintSpans() {
  base.lineWidth = 1;
  for (const span of faults) {
    if (span.to < view.from || span.from > view.to) continue;
    const left = Math.max(-4, xOf(span.from));
    const width = Math.max(3, Math.min(view.width + 4, xOf(span.to)) - left);
    const rows = spanRows(span);
    for (const [top, height, lane] of rows) {
      if (top > view.height || top + height < 0) continue;
      base.fillStyle = hatches.get(span.kind) ?? colours["fault-tint"];
      base.fillRect(left, top, width, height);
      base.fillStyle = colours.fault;
      base.fillRect(left, top, 1.5, height);
      if (span.ends) base.fillRect(left + width - 1, top, 1, height);
      drawn.spans.push({ span, lane, left, top, width, height });
    }
    if (span.kind === "link" && span.lanes.length === 2) paintCut(span, left, left + width);
  }
  for (const span of leaders) {
    if (span.to < view.from || span.from > view.to) continue;
    const left = Math.max(-4, xOf(span.from));
    const right = Math.min(view.width + 4, xOf(span.to));
    for (const lane of span.lanes) {
      const y = Math.round(yOf(lane));
      base.fillStyle = colours.raft;
      base.fillRect(left, y - 1, right - left, 3);
      drawn.spans.push({ span, lane, left, top: y - 5, width: right - left, height: 10 });
    }
  }
}

/** Ties the two ends of a cut link together. */
function paintCut(span, left, right) {
  const [a, b] = span.lanes.map(yOf);
  base.strokeStyle = colours.fault;
  base.setLineDash([2, 3]);
  base.beginPath();
  for (const x of [left + 0.5, right - 0.5]) {
    base.moveTo(x, a);
    base.lineTo(x, b);
  }
  base.stroke();
  base.setLineDash([]);
}

/** The part of a line that lies near the view, or null: canvases are slow with what is far. */
function clipped(x1, y1, x2, y2) {
  const edge = 40;
  let low = 0, high = 1;
  const dx = x2 - x1, dy = y2 - y1;
  for (const [p, q] of [
    [-dx, x1 + edge], [dx, view.width + edge - x1],
    [-dy, y1 + edge], [dy, view.height + edge - y1],
  ]) {
    if (p === 0) {
      if (q < 0) return null;
    } else if (p < 0) low = Math.max(low, q / p);
    else high = Math.min(high, q / p);
    if (low > high) return null;
  }
  return [x1 + low * dx, y1 + low * dy, x1 + high * dx, y1 + high * dy, high === 1];
}

/** Where an arrow begins and ends on the stage. */
function arrowLine(i) {
  const x1 = xOf(arrows.sent[i]), y1 = yOf(arrows.from[i]);
  const y2 = yOf(arrows.to[i]);
  if (!Number.isNaN(arrows.arrived[i])) {
    // The head stops short of the lane, so that a mark there stays readable.
    const x2 = xOf(arrows.arrived[i]);
    const length = Math.hypot(x2 - x1, y2 - y1);
    const part = length > 24 ? 1 - 5 / length : 1;
    return [x1, y1, x1 + (x2 - x1) * part, y1 + (y2 - y1) * part];
  }
  return [x1, y1, x1 + 8, y1 + (y2 - y1) * 0.6];
}

/** What is in view: verdicts to draw arrow by arrow, calm ones first, and the others as a crowd. */
function arrowsInView() {
  const byVerdict = arrowLooks.map((look) => ({ look, all: [] }));
  let count = 0;
  arrowsWithin(view.from, view.to, (i) => {
    if (!isShown(~i)) return;
    byVerdict[arrows.verdict[i]].all.push(i);
    count++;
  });
  byVerdict.sort((a, b) => Number(b.look.calm) - Number(a.look.calm));
  if (count <= ARROWS_PLAIN) return { drawn: byVerdict, crowd: null };
  if (view.found) {
    // Only what the search found is left.
    for (const verdict of byVerdict) verdict.all = verdict.all.filter((i) => view.foundSet.has(~i));
    count = byVerdict.reduce((sum, { all }) => sum + all.length, 0);
    if (count <= ARROWS_PLAIN) return { drawn: byVerdict, crowd: null };
  }
  const stands = ({ look, all }) => !look.calm && all.length <= 2 * ARROWS_STRONG;
  return {
    drawn: byVerdict.filter(stands),
    crowd: byVerdict.filter((verdict) => !stands(verdict)).flatMap(({ all }) => all),
  };
}

const crowdCanvas = document.createElement("canvas");
const crowd = crowdCanvas.getContext("2d");

/** Too many to draw: how many leave in each slice of time and pass between each two lanes. At such
    a scale an arrow is upright, so the slice of its departure stands for all of it. */
function paintCrowd(all) {
  const columns = Math.ceil(view.width / CROWD_PX), size = lanes.length;
  const steps = new Int32Array(columns * (size + 1));
  for (const i of all) {
    const column = Math.floor(xOf(arrows.sent[i]) / CROWD_PX);
    if (column < 0 || column >= columns) continue;
    const [a, b] = [arrows.from[i], arrows.to[i]];
    steps[column * (size + 1) + Math.min(a, b)]++;
    steps[column * (size + 1) + Math.max(a, b)]--;
  }
  crowdCanvas.width = columns;
  crowdCanvas.height = size;
  crowd.fillStyle = colours.duplicate;
  crowd.fillRect(0, 0, columns, size);
  const picture = crowd.getImageData(0, 0, columns, size);
  for (let column = 0; column < columns; column++) {
    let count = 0;
    for (let lane = 0; lane < size; lane++) {
      count += steps[column * (size + 1) + lane];
      picture.data[(lane * columns + column) * 4 + 3] =
        count === 0 ? 0 : Math.min(130, 18 + 16 * Math.log2(1 + count));
    }
  }
  crowd.putImageData(picture, 0, 0);
  base.imageSmoothingEnabled = false;
  for (let lane = 0; lane + 1 < size; lane++) {
    const top = yOf(lane), height = yOf(lane + 1) - top;
    if (top > view.height || top + height < 0) continue;
    base.drawImage(crowdCanvas, 0, lane, columns, 1, 0, top, columns * CROWD_PX, height);
  }
  base.imageSmoothingEnabled = true;
}

function paintVerdict(look, all) {
  const lit = [], faded = [];
  for (const i of all) {
    const line = clipped(...arrowLine(i));
    if (!line) continue;
    (!view.found || view.foundSet.has(~i) ? lit : faded).push(line);
    drawn.arrows.push({ item: ~i, x1: line[0], y1: line[1], x2: line[2], y2: line[3] });
  }
  const least = look.calm ? 0.25 : 0.5;
  const pale = Math.max(least, Math.min(1, Math.sqrt(ARROWS_STRONG / all.length)));
  for (const [lines, strength] of [[faded, 0.15], [lit, view.found ? 1 : pale]]) {
    if (lines.length === 0) continue;
    base.globalAlpha = strength;
    strokeLines(lines, look);
    if (lines.length <= 2 * ARROWS_STRONG) strokeHeads(lines, look);
  }
  base.globalAlpha = 1;
}

function strokeLines(lines, look) {
  base.strokeStyle = colours[look.colour];
  base.lineWidth = look.name === "info" ? 1 : 1.3;
  base.setLineDash(look.dash);
  for (let start = 0; start < lines.length; start += STROKES_AT_ONCE) {
    base.beginPath();
    for (const [x1, y1, x2, y2] of lines.slice(start, start + STROKES_AT_ONCE)) {
      base.moveTo(x1, y1);
      base.lineTo(x2, y2);
    }
    base.stroke();
  }
  base.setLineDash([]);
}

function strokeHeads(lines, look) {
  base.fillStyle = look.head === "hollow" ? colours.surface : colours[look.colour];
  base.lineWidth = look.head === "bar" ? 2.4 : 1.5;
  for (const [x1, y1, x2, y2, whole] of lines) {
    if (!whole) continue;
    headPath(look.head, x2, y2, Math.atan2(y2 - y1, x2 - x1));
    if (look.head === "full" || look.head === "hollow") base.fill();
    if (look.head !== "full") base.stroke();
  }
}

/** The end of an arrow at x, y. */
function headPath(head, x, y, angle) {
  const [c, s] = [Math.cos(angle), Math.sin(angle)];
  const point = (along, across) => [x + along * c - across * s, y + along * s + across * c];
  base.beginPath();
  if (head === "bar") {
    base.moveTo(...point(0, -5));
    base.lineTo(...point(0, 5));
  } else if (head === "cross") {
    for (const [dx, dy] of [[3.5, 3.5], [3.5, -3.5]]) {
      base.moveTo(x - dx, y - dy);
      base.lineTo(x + dx, y + dy);
    }
  } else {
    base.moveTo(...point(-7, -3.2));
    base.lineTo(x, y);
    base.lineTo(...point(-7, 3.2));
    if (head !== "open") base.closePath();
  }
}

/** Marks that are never swallowed by a bar. */
const keepsMark = eventMarks.map((mark) => ["fault", "unmet", "violation"].includes(mark.name));

function paintEvents() {
  for (let lane = 0; lane < lanes.length; lane++) {
    if (!isRowInView(lane)) continue;
    const list = laneEvents[lane];
    const margin = 8 * perPixel();
    const first = lowerBound(list.at, view.from - margin);
    const last = lowerBound(list.at, view.to + margin, first);
    const kept = isKept(lane);
    const crowded = (last - first) * CROWDED_PX > view.width;
    base.globalAlpha = kept ? 1 : 0.25;
    if (crowded) paintBars(lane, list, first, last);
    else if (kept) paintMarks(lane, list, first, last);
    if (crowded || !kept) {
      paintMarks(lane, list, first, last, (i) => keepsMark[events.kind[i]]
        || (kept && view.foundSet.has(i)));
    }
  }
  base.globalAlpha = 1;
}

/** How many events there are, in bars of two pixels, coloured as most of them are. */
function paintBars(lane, list, first, last) {
  const kinds = eventMarks.length;
  const size = Math.ceil(view.width / 2) + 1;
  const bins = new Uint16Array(size * kinds);
  for (let k = first; k < last; k++) {
    const i = list.place[k];
    const bin = Math.floor(xOf(events.at[i]) / 2);
    if (bin >= 0 && bin < size && !view.hiddenMarks.has(events.kind[i])) {
      bins[bin * kinds + events.kind[i]]++;
    }
  }
  const y = Math.round(yOf(lane)) + 0.5;
  const room = view.row[lane] * 0.7;
  const strength = base.globalAlpha;
  base.globalAlpha = strength * 0.65;
  for (let bin = 0; bin < size; bin++) {
    let count = 0, most = 0;
    for (let kind = 0; kind < kinds; kind++) {
      const part = bins[bin * kinds + kind];
      count += part;
      if (part > bins[bin * kinds + most]) most = kind;
    }
    if (count === 0) continue;
    const height = Math.min(room, 4 + 3 * Math.log2(count));
    base.fillStyle = view.found ? colours.faint : colours[eventMarks[most].colour];
    base.fillRect(bin * 2, y - height / 2, 1.5, height);
  }
  base.globalAlpha = strength;
}

function paintMarks(lane, list, first, last, chosen = () => true) {
  const y = yOf(lane);
  const half = SPRITE_SIZE / 2 * Math.min(1, view.row[lane] / 16);
  for (let k = first; k < last; k++) {
    const i = list.place[k];
    if (view.hiddenMarks.has(events.kind[i]) || !chosen(i)) continue;
    const x = xOf(events.at[i]);
    if (view.found) base.globalAlpha = view.foundSet.has(i) ? 1 : 0.2;
    base.drawImage(sprites.get(eventMarks[events.kind[i]].name), x - half, y - half, 2 * half, 2 * half);
    drawn.events.push({ item: i, x, y });
  }
}

function paintViolationBands() {
  for (const found of violations) {
    const x = xOf(found.at);
    if (x < -20 || x > view.width + 20) continue;
    base.globalAlpha = 0.6;
    base.fillStyle = colours["violation-tint"];
    base.fillRect(x - 12, 0, 24, view.height);
    base.globalAlpha = 1;
  }
}

/** A violation crosses every lane, and is boxed where it concerns one. */
function paintViolationLines() {
  for (const found of violations) {
    const x = xOf(found.at);
    if (x < -20 || x > view.width + 20) continue;
    base.fillStyle = colours.violation;
    base.fillRect(x - 1, 0, 2, view.height);
    for (const lane of found.lanes) {
      const top = view.top[lane] - scroller.scrollTop;
      base.strokeStyle = colours.violation;
      base.lineWidth = 2;
      base.strokeRect(x - 12, top + 2, 24, view.row[lane] - 4);
    }
  }
}
