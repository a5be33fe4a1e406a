// What is in view: the stretch of time, the rows of the lanes, what is hidden, chosen, searched for.

const element = (id) => document.getElementById(id);
const stage = element("stage");
const scroller = element("scroller");

const SPAN_MIN = 1e3; // A microsecond across the screen.
const ROW_MIN = 20;
const ROW_MAX = 76;
const ROW_SHRUNK = 14;

const view = {
  from: 0, to: 1, width: 0, height: 0,
  /** Top and height of each lane's row, in pixels from the first one. */
  top: new Float32Array(lanes.length), row: new Float32Array(lanes.length), total: 0,
  /** Lanes picked by their heads; none: all. */
  kept: new Set(),
  hiddenMarks: new Set(), hiddenVerdicts: new Set(),
  /** What the search found, items in the order of time; null without a search. */
  found: null, foundSet: new Set(),
  /** {item} or {span} or {violation}, or null. */
  chosen: null, hover: null,
  /** Whether the words about the chosen thing are shown beside it. */
  telling: false,
};

const calm = matchMedia("(prefers-reduced-motion: reduce)");
const perPixel = () => (view.to - view.from) / view.width;
const xOf = (at) => ((at - view.from) / (view.to - view.from)) * view.width;
const timeOf = (x) => view.from + x * perPixel();
/** Middle of a lane's row on the stage. */
const yOf = (lane) => view.top[lane] + view.row[lane] / 2 - scroller.scrollTop;
const isKept = (lane) => view.kept.size === 0 || view.kept.has(lane);

function isShown(item) {
  if (isArrow(item)) {
    const i = ~item;
    return !view.hiddenVerdicts.has(arrows.verdict[i])
      && (isKept(arrows.from[i]) || isKept(arrows.to[i]));
  }
  return !view.hiddenMarks.has(events.kind[item]) && isKept(events.lane[item]);
}

/** Gives each lane its row: all alike, or the kept ones tall and the others shrunk. */
function layOut(available, least) {
  const kept = view.kept.size || lanes.length;
  const shrunk = (lanes.length - kept) * ROW_SHRUNK;
  const tall = Math.max(view.kept.size ? least * 2 : least,
    Math.min(ROW_MAX, Math.floor((available - shrunk) / kept)));
  let top = 0;
  for (let lane = 0; lane < lanes.length; lane++) {
    view.top[lane] = top;
    view.row[lane] = isKept(lane) ? tall : ROW_SHRUNK;
    top += view.row[lane];
  }
  view.total = top;
}

/** Within what the run offers, never narrower than SPAN_MIN. */
function bounded(from, to) {
  const margin = run.end * 0.02 + 1;
  const length = Math.min(Math.max(to - from, SPAN_MIN), run.end + 2 * margin);
  const start = Math.min(Math.max(from, -margin), run.end + margin - length);
  return [start, start + length];
}

let flight = null;

/** Shows a stretch of time; with `glide`, over a fifth of a second, unless motion is unwelcome. */
function show(from, to, glide = false) {
  const [goalFrom, goalTo] = bounded(from, to);
  flight = null;
  if (!glide || calm.matches) {
    [view.from, view.to] = [goalFrom, goalTo];
    return changed("time");
  }
  flight = { start: performance.now(), from: view.from, to: view.to, goalFrom, goalTo };
  changed("time");
}

/** The next step of a glide. */
function glide(now) {
  if (!flight) return;
  const part = Math.min(1, (now - flight.start) / 200);
  const eased = 1 - (1 - part) ** 3;
  view.from = flight.from + (flight.goalFrom - flight.from) * eased;
  view.to = flight.to + (flight.goalTo - flight.to) * eased;
  if (part >= 1) flight = null;
  changed("time");
}

function zoom(factor, x = view.width / 2) {
  const pivot = timeOf(x);
  const length = (view.to - view.from) / factor;
  const clamped = Math.max(length, SPAN_MIN);
  const from = pivot - clamped * (x / view.width);
  show(from, from + clamped);
}

function pan(pixels) {
  const shift = pixels * perPixel();
  show(view.from + shift, view.to + shift);
}

const whole = (smoothly = true) => show(-run.end * 0.02, run.end * 1.02, smoothly);

/** Moves the view so that `from..to` is in it, keeping its length if that suffices. */
function bringIn(from, to) {
  const length = view.to - view.from;
  const inside = from >= view.from + length * 0.03 && to <= view.to - length * 0.03;
  if (inside) return;
  const middle = (from + to) / 2;
  const wide = Math.max(length, (to - from) * 1.6);
  show(middle - wide / 2, middle + wide / 2, true);
}

function bringLaneIn(lane) {
  const [top, bottom] = [view.top[lane], view.top[lane] + view.row[lane]];
  if (top < scroller.scrollTop) scroller.scrollTop = top - 8;
  else if (bottom > scroller.scrollTop + view.height) {
    scroller.scrollTop = bottom - view.height + 8;
  }
}

/** Chooses a thing: {item}, {span} or {violation}; brings it into view and says what it is. */
function choose(thing, { quiet = false } = {}) {
  view.chosen = thing;
  view.telling = thing !== null && !quiet;
  if (thing) {
    const [from, to] = extent(thing);
    bringIn(from, to);
    for (const lane of lanesOf(thing).slice(0, 2).reverse()) bringLaneIn(lane);
    element("said").textContent = describe(thing).spoken;
  }
  changed("chosen");
}

/** Time that a thing takes. */
function extent(thing) {
  if (thing.violation) return [thing.violation.at, thing.violation.at];
  if (thing.span) return [thing.span.from, thing.span.to];
  const { item } = thing;
  if (!isArrow(item)) return [events.at[item], events.at[item]];
  const there = arrows.arrived[~item];
  return [arrows.sent[~item], Number.isNaN(there) ? arrows.sent[~item] : there];
}

function lanesOf(thing) {
  if (thing.violation) return thing.violation.lanes;
  if (thing.span) return thing.span.lanes;
  return isArrow(thing.item)
    ? [arrows.from[~thing.item], arrows.to[~thing.item]] : [events.lane[thing.item]];
}

/** Shows the time around a violation, with some fifty lines before it. */
function showViolation(violation, smoothly) {
  const place = lowerBound(events.at, violation.at);
  const before = violation.at - (events.at[Math.max(0, place - 50)] ?? 0);
  const length = Math.min(Math.max(before, run.end / 2000, 1e6), run.end / 4 + 1);
  show(violation.at - length, violation.at + length / 2, smoothly);
  choose({ violation });
}

function showSpan(span) {
  const around = Math.max((span.to - span.from) * 0.6, run.end / 400, 1e6);
  show(span.from - around, span.to + around, true);
  choose({ span });
}

/** Where a step starts: at the chosen thing, or, when that is out of view, at the view's edge. */
function stepFrom(direction) {
  const at = view.chosen ? extent(view.chosen)[0] : NaN;
  if (at >= view.from && at <= view.to) return { at, chosen: view.chosen };
  return { at: direction > 0 ? view.from : view.to, chosen: null };
}

/** The next of `all` (sorted by `at`), round and round. */
function following(all, kind, at, direction) {
  if (all.length === 0) return null;
  const start = stepFrom(direction);
  const place = all.indexOf(start.chosen?.[kind]);
  if (place >= 0) return all[(place + direction + all.length) % all.length];
  const after = all.findIndex((thing) => at(thing) > start.at);
  if (direction > 0) return all[Math.max(after, 0)];
  return all[((after < 0 ? all.length : after) - 1 + all.length) % all.length];
}

function stepViolation(direction) {
  const next = following(violations, "violation", (found) => found.at, direction);
  if (next) showViolation(next, true);
}

function stepFault(direction) {
  const next = following(faults, "span", (span) => span.from, direction);
  if (next) showSpan(next);
}

/** The next shown item of the story, or of what the search found. */
function stepItem(direction, among = story) {
  const { at, chosen } = stepFrom(direction);
  let place = chosen?.item === undefined ? -1 : placeIn(among, chosen.item);
  if (place < 0) place = firstAt(among, at) - (direction > 0 ? 1 : 0);
  for (let tries = 0; tries < among.length; tries++) {
    place += direction;
    if (place < 0 || place >= among.length) {
      if (among === story) return;
      place = (place + among.length) % among.length;
    }
    if (isShown(among[place])) return choose({ item: among[place] });
  }
}

/** Place of the first of a list of items, sorted by time, that is not before `at`. */
function firstAt(list, at, timeOfOne = itemAt) {
  let low = 0, high = list.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (timeOfOne(list[middle]) < at) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Place of an item in such a list, or -1. */
function placeIn(list, item) {
  const at = itemAt(item);
  for (let place = firstAt(list, at); place < list.length && itemAt(list[place]) === at; place++) {
    if (list[place] === item) return place;
  }
  return -1;
}

/** Finds the words in events, frames and names of lanes; an empty search finds nothing. */
function search(words) {
  const wanted = words.trim().toLowerCase();
  if (!wanted) {
    [view.found, view.foundSet] = [null, new Set()];
    return changed("found");
  }
  view.found = Array.from(story).filter((item) => {
    if (!isArrow(item)) {
      return events.text[item].toLowerCase().includes(wanted)
        || laneName(events.lane[item]).toLowerCase().includes(wanted);
    }
    const verdict = arrowLooks[arrows.verdict[~item]].words;
    return `${laneName(arrows.from[~item])} ${itemText(item)} ${verdict}`.toLowerCase().includes(wanted);
  });
  view.foundSet = new Set(view.found);
  changed("found");
}

/** Everything there is to say of a thing. */
function describe(thing) {
  if (thing.violation) {
    const { at, checker, lanes: where, text } = thing.violation;
    return said("violation", `${checker} violated`, `${seconds(at)} s`, laneNames(where), text);
  }
  if (thing.span) {
    const { from, to, ends, kind, lanes: where, label } = thing.span;
    const until = ends ? `to ${seconds(to, 6)} s, ${lasting(to - from)}` : "to the end";
    const name = SPANS[kind]?.words ?? kind;
    return said(kind, name, `${seconds(from, 6)} s ${until}`, laneNames(where), label);
  }
  const { item } = thing;
  if (!isArrow(item)) {
    const mark = eventMarks[events.kind[item]];
    return said(mark.name, mark.words, `${seconds(events.at[item])} s`,
      laneName(events.lane[item]), events.text[item]);
  }
  const i = ~item;
  const look = arrowLooks[arrows.verdict[i]];
  const under = Number.isNaN(arrows.arrived[i]) ? ""
    : `, ${lasting(arrows.arrived[i] - arrows.sent[i])} under way`;
  const where = `${laneName(arrows.from[i])} → ${laneName(arrows.to[i])}`;
  const text = arrows.detail[i] ? `${arrows.label[i]}: ${arrows.detail[i]}` : arrows.label[i];
  return said(look.name, look.words, `${seconds(arrows.sent[i])} s${under}`, where, text);
}

function said(kind, name, when, where, text) {
  return { kind, name, when, where, text, spoken: `${when}, ${where}, ${name}: ${text}` };
}
