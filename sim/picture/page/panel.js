// The parts that are HTML: heads of lanes, legend, transcript, tip, places in the tools.

const board = element("board");
const heads = element("heads");
const transcript = element("transcript");
const rows = element("rows");
const tip = element("tip");
const ROW_HEIGHT = 19;

function made(tag, properties = {}, children = []) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

// Heads of lanes

const headOf = lanes.map((lane, place) => {
  const first = place === 0 || lanes[place - 1].kind !== lane.kind;
  const accused = violations.some((found) => found.lanes.includes(place));
  const head = made("button", {
    type: "button",
    className: `head${first && place > 0 ? " first" : ""}${accused ? " accused" : ""}`,
    title: `${lane.name}: ${laneEvents[place].size} events`,
    onclick: () => keep(place),
  }, [
    made("span", { className: "who", textContent: lane.name }),
    made("span", { className: "kind", textContent: first ? lane.kind : "" }),
  ]);
  heads.append(head);
  return head;
});

/** Keeps a lane, or lets go of it. */
function keep(lane) {
  if (view.kept.has(lane)) view.kept.delete(lane);
  else view.kept.add(lane);
  changed("filter");
}

function placeHeads() {
  element("content").style.height = `${Math.max(view.total, 1)}px`;
  headOf.forEach((head, lane) => {
    head.style.top = `${view.top[lane]}px`;
    head.style.height = `${view.row[lane]}px`;
    head.setAttribute("aria-pressed", view.kept.has(lane));
    head.style.fontSize = `${Math.min(13, view.row[lane] * 0.72)}px`;
    head.classList.toggle("shrunk", !isKept(lane));
  });
  element("all-lanes").hidden = view.kept.size === 0;
  element("all-lanes").textContent = `All ${lanes.length} lanes`;
}

// Legend

function countBy(column, names) {
  const counts = new Uint32Array(names.length);
  for (const value of column) counts[value]++;
  return counts;
}

/** One entry for each kind that the run has; a click hides it. The title hides or shows all. */
function makeLegend() {
  const legend = element("legend");
  const group = (title, looks, counts, hidden, picture) => {
    const places = looks.map((_, place) => place).filter((place) => counts[place] > 0);
    if (places.length === 0) return;
    const all = made("button", { type: "button", className: "title", textContent: title });
    all.title = `Hide or show all ${title.toLowerCase()}`;
    all.onclick = () => {
      const hide = places.some((place) => !hidden.has(place));
      for (const place of places) hide ? hidden.add(place) : hidden.delete(place);
      changed("filter");
    };
    legend.append(all);
    for (const place of places) {
      const button = made("button", { type: "button", ariaPressed: "true" }, [
        picture(looks[place]), looks[place].words,
        made("span", { className: "number", textContent: grouped(counts[place]) }),
      ]);
      button.onclick = () => {
        if (!hidden.delete(place)) hidden.add(place);
        changed("filter");
      };
      legendButtons.push({ button, hidden, place });
      legend.append(button);
    }
  };
  group("Frames", arrowLooks, countBy(arrows.verdict, arrowLooks), view.hiddenVerdicts, arrowSwatch);
  group("Events", eventMarks, countBy(events.kind, eventMarks), view.hiddenMarks, markSwatch);
  const kinds = Object.keys(SPANS).filter((kind) => faults.some((span) => span.kind === kind));
  if (kinds.length) legend.append(made("span", { className: "title", textContent: "Faults" }));
  for (const kind of kinds) {
    const same = faults.filter((span) => span.kind === kind);
    const button = made("button", { type: "button", title: "Go to the next one" }, [
      spanSwatch(SPANS[kind]), SPANS[kind].words,
      made("span", { className: "number", textContent: same.length }),
    ]);
    button.onclick = () => showSpan(following(same, "span", (span) => span.from, 1));
    legend.append(button);
  }
}

const legendButtons = [];

function markLegend() {
  for (const { button, hidden, place } of legendButtons) {
    button.ariaPressed = String(!hidden.has(place));
  }
}

// Transcript: every event and frame that is not hidden, as far as it is in sight.

/** Items, or a stretch that was thinned, in the order of time. */
let lines = [];

function listLines() {
  lines = [];
  let next = 0;
  for (const item of story) {
    while (next < thinned.length && thinned[next][0] < itemAt(item)) lines.push(thinned[next++]);
    if (isShown(item)) lines.push(item);
  }
  rows.style.height = `${lines.length * ROW_HEIGHT}px`;
}

const lineAt = (line) => (Array.isArray(line) ? line[0] : itemAt(line));

const firstLineAt = (at) => firstAt(lines, at, lineAt);

/** Scrolls the transcript to the chosen line, or to where the view begins. */
function followView() {
  if (board.classList.contains("no-list")) return;
  const { chosen } = view;
  const at = chosen ? extent(chosen)[0] : NaN;
  const height = transcript.clientHeight;
  if (at >= view.from && at <= view.to) {
    const top = (chosen.item === undefined ? firstLineAt(at) : lineOf(chosen.item)) * ROW_HEIGHT;
    const isSeen = top >= transcript.scrollTop && top <= transcript.scrollTop + height - ROW_HEIGHT;
    if (!isSeen) transcript.scrollTop = top - height / 2;
  } else {
    transcript.scrollTop = firstLineAt(view.from) * ROW_HEIGHT;
  }
}

function lineOf(item) {
  const first = firstLineAt(itemAt(item));
  const place = lines.indexOf(item, first);
  return place < 0 ? first : place;
}

function paintTranscript() {
  if (board.classList.contains("no-list")) return;
  const first = Math.max(0, Math.floor(transcript.scrollTop / ROW_HEIGHT) - 4);
  const count = Math.ceil(transcript.clientHeight / ROW_HEIGHT) + 8;
  const seen = lines.slice(first, first + count);
  rows.replaceChildren(...seen.map((line, k) => rowOf(line, first + k)));
}

function rowOf(line, place) {
  const row = made("div", { className: "row", role: "listitem" });
  row.style.top = `${place * ROW_HEIGHT}px`;
  if (Array.isArray(line)) {
    const [from, to, leftOut] = line;
    row.classList.add("gap");
    row.textContent = `${grouped(leftOut)} left out from ${seconds(from, 3)} s to ${seconds(to, 3)} s`;
    return row;
  }
  const at = itemAt(line);
  const look = isArrow(line) ? arrowLooks[arrows.verdict[~line]] : eventMarks[events.kind[line]];
  row.classList.toggle("outside", at < view.from || at > view.to);
  row.classList.toggle("match", view.foundSet.has(line));
  row.classList.toggle("bad", look.name === "violation" || look.name === "unmet");
  row.classList.toggle("fault", look.name === "fault");
  row.classList.toggle("chosen", isChosenLine(line));
  row.append(
    made("span", { className: "at", textContent: seconds(at, 6).padStart(11) }),
    made("span", { className: "mark" }, [isArrow(line) ? arrowSwatch(look) : markSwatch(look)]),
    made("span", { className: "lane", textContent: laneName(itemLane(line)).padEnd(laneWidth) }),
    made("span", { className: "what", textContent: itemText(line) }),
  );
  row.onclick = () => choose({ item: line });
  return row;
}

const laneWidth = Math.min(8, lanes.reduce((most, lane) => Math.max(most, lane.name.length), 0));

function isChosenLine(line) {
  const { chosen } = view;
  if (!chosen) return false;
  if (chosen.item !== undefined) return chosen.item === line;
  return chosen.violation !== undefined && !isArrow(line) && events.at[line] === chosen.violation.at
    && eventMarks[events.kind[line]].name === "violation";
}

// Tip: words about what is pointed at, or was reached by a key.

function paintTip() {
  const thing = view.hover ?? (view.telling ? view.chosen : null);
  tip.hidden = !thing;
  if (!thing) return;
  const { kind, name, when, where, text } = describe(thing);
  const verdict = arrowLooks.find((look) => look.name === kind && isArrow(thing.item ?? 0));
  const picture = verdict ? arrowSwatch(verdict)
    : MARKS[kind] ? markSwatch(MARKS[kind]) : SPANS[kind] ? spanSwatch(SPANS[kind]) : "";
  tip.classList.toggle("bad", kind === "violation");
  tip.replaceChildren(
    made("div", {}, [picture, made("span", { className: "name", textContent: name }), ` ${where}`]),
    made("div", { className: "when", textContent: when }),
    made("div", { textContent: text }),
  );
  placeTip(thing);
}

/** Beside the pointer, or beside the thing; never over it, never beyond the window. */
function placeTip(thing) {
  const frame = stage.getBoundingClientRect();
  let x, y;
  if (view.hover && pointer) [x, y] = [pointer.x, pointer.y];
  else {
    const [from, to] = extent(thing);
    x = Math.min(Math.max((xOf(from) + xOf(to)) / 2, 0), view.width);
    const ys = lanesOf(thing).map(yOf);
    y = ys.length ? Math.min(...ys) : view.height * 0.1;
    y = Math.min(Math.max(y, 0), view.height);
  }
  const { width, height } = tip.getBoundingClientRect();
  const left = frame.left + x + 16 + width > innerWidth ? frame.left + x - width - 16 : frame.left + x + 16;
  const below = frame.top + y + 16;
  const top = below + height > innerHeight ? frame.top + y - height - 12 : below;
  tip.style.left = `${Math.max(8, left)}px`;
  tip.style.top = `${Math.max(8, top)}px`;
}

// Tools

function markTools() {
  const placeOf = (all, thing) => (all.indexOf(thing) < 0 ? "" : `${all.indexOf(thing) + 1} of `);
  const counted = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;
  element("fault-place").textContent =
    placeOf(faults, view.chosen?.span) + counted(faults.length, "fault");
  element("violation-place").textContent =
    placeOf(violations, view.chosen?.violation) + counted(violations.length, "violation");
  const found = view.found;
  const place = found && view.chosen?.item !== undefined ? placeIn(found, view.chosen.item) : -1;
  element("matches").textContent = found === null ? ""
    : place < 0 ? grouped(found.length) : `${grouped(place + 1)} of ${grouped(found.length)}`;
}

function markRange() {
  const length = view.to - view.from;
  const digits = Math.max(1, Math.min(9, Math.ceil(11 - Math.log10(length))));
  const [from, to] = [Math.max(0, view.from), Math.min(run.end, view.to)];
  element("range").textContent =
    `${seconds(from, digits)} – ${seconds(to, digits)} s (${lasting(to - from)})`
    + (thinned.some((part) => part[0] < to && part[1] > from) ? ", not all of it shown" : "");
}
