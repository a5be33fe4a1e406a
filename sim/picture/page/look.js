// How each kind of thing looks: marks, dashes, heads, hatches. Shape and dash tell kinds apart
// without colour; colours come from the style sheet.

/** Marks of events: paths around 0,0 within -6..6. `line`: drawn as an outline of that width. */
const MARKS = {
  "note": { words: "note", colour: "muted", path: "M2 0A2 2 0 1 1-2 0A2 2 0 1 1 2 0Z" },
  "join": { words: "join", colour: "join", path: "M0-5.2L5.2 0L0 5.2L-5.2 0Z" },
  "uplink": { words: "uplink", colour: "accepted", path: "M0-4.8L5 4H-5Z" },
  "downlink": { words: "downlink", colour: "acknowledged", path: "M0 4.8L5-4H-5Z" },
  "ack": {
    words: "acknowledgement", colour: "acknowledged", line: 2.2, path: "M-4.6 .4L-1.4 3.8L4.6-4",
  },
  "fsync": { words: "durable", colour: "fsync", path: "M-4.5-2H4.5V2H-4.5Z" },
  "mqtt": {
    words: "MQTT", colour: "accepted", line: 1.6,
    path: "M3.6 0A3.6 3.6 0 1 1-3.6 0A3.6 3.6 0 1 1 3.6 0Z",
  },
  "api": { words: "API", colour: "muted", line: 1.6, path: "M-3.4-3.4H3.4V3.4H-3.4Z" },
  "raft": { words: "raft", colour: "raft", path: "M0-5L4.4-2.5V2.5L0 5L-4.4 2.5V-2.5Z" },
  "fault": { words: "fault", colour: "fault", path: "M2-6L-4 1H-.4L-2 6L4-1H.4Z" },
  "unmet": {
    words: "not met", colour: "violation", line: 1.8,
    path: "M-2-4.8H2L4.8-2V2L2 4.8H-2L-4.8 2V-2ZM-2.4 0H2.4",
  },
  "violation": {
    words: "violation", colour: "violation",
    path: "M-2.4-5.8H2.4L5.8-2.4V2.4L2.4 5.8H-2.4L-5.8 2.4V-2.4Z",
  },
};

/** Verdicts of arrows. `calm`: paler where many are drawn. `head`: shape of the end. */
const VERDICTS = {
  "accepted": { words: "accepted", colour: "accepted", dash: [], head: "full", calm: true },
  "acknowledged": { words: "acknowledges", colour: "acknowledged", dash: [8, 2], head: "full", calm: true },
  "duplicate": { words: "duplicate", colour: "duplicate", dash: [5, 3], head: "hollow", calm: true },
  "refused": { words: "refused", colour: "refused", dash: [], head: "bar", calm: false },
  "too-late": { words: "too late", colour: "too-late", dash: [7, 3, 1.5, 3], head: "bar", calm: false },
  "lost": { words: "lost", colour: "lost", dash: [1.5, 3], head: "cross", calm: false },
  "info": { words: "carried", colour: "info", dash: [], head: "open", calm: true },
};

/** Spans. `hatch`: the pattern over the tint. */
const SPANS = {
  "power-cut": { words: "power cut", tint: "down-tint", hatch: "grid" },
  "kill": { words: "process killed", tint: "down-tint", hatch: "rising" },
  "pause": { words: "process paused", tint: "down-tint", hatch: "dots" },
  "disk": { words: "disk", tint: "fault-tint", hatch: "level" },
  "link": { words: "link cut", tint: "fault-tint", hatch: "falling" },
  "clock": { words: "wall clock", tint: "fault-tint", hatch: "upright" },
  "fault": { words: "other fault", tint: "fault-tint", hatch: "none" },
};

const HATCHES = {
  none: "",
  rising: "M-2 2L2-2M0 8L8 0M6 10L10 6",
  falling: "M-2 6L2 10M0 0L8 8M6-2L10 2",
  level: "M0 4H8",
  upright: "M4 0V8",
  grid: "M0 4H8M4 0V8",
  dots: "M3.2 4H4.8",
};

const eventMarks = run.event_kinds.map((name) => ({ name, ...MARKS[name] }));
const arrowLooks = run.verdicts.map((name) => ({ name, ...VERDICTS[name] }));

/** The colours of the scheme in force, by name. */
let colours = {};
/** Marks and hatches as small pictures in those colours, for the screen's density. */
let sprites = new Map();
let hatches = new Map();
const SPRITE_SIZE = 16;

function readColours(density) {
  const style = getComputedStyle(document.documentElement);
  const names = [
    "page", "surface", "text", "muted", "faint", "line", "lane", "focus", "chosen", "match", "kept",
    "accepted", "acknowledged", "duplicate", "refused", "too-late", "lost", "info", "join", "fsync",
    "raft", "fault", "fault-tint", "down-tint", "violation", "violation-tint", "on-violation", "caution",
  ];
  colours = Object.fromEntries(
    names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]),
  );
  sprites = new Map(eventMarks.map((mark) => [mark.name, sprite(mark, density)]));
  hatches = new Map(Object.keys(SPANS).map((kind) => [kind, hatch(SPANS[kind], density)]));
}

function canvasOf(size, density) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = Math.round(size * density);
  const brush = canvas.getContext("2d");
  brush.scale(canvas.width / size, canvas.width / size);
  return [canvas, brush];
}

function sprite(mark, density) {
  const [canvas, brush] = canvasOf(SPRITE_SIZE, density);
  const path = new Path2D(mark.path);
  brush.translate(SPRITE_SIZE / 2, SPRITE_SIZE / 2);
  // A rim in the colour of the ground keeps marks apart that lie on lines and on each other.
  brush.lineJoin = "round";
  brush.strokeStyle = colours.surface;
  brush.lineWidth = (mark.line ?? 0) + 2;
  brush.stroke(path);
  brush.fillStyle = brush.strokeStyle = colours[mark.colour];
  if (mark.line) {
    brush.lineWidth = mark.line;
    brush.stroke(path);
  } else {
    brush.fill(path);
  }
  return canvas;
}

function hatch(look, density) {
  const [canvas, brush] = canvasOf(8, density);
  brush.fillStyle = colours[look.tint];
  brush.fillRect(0, 0, 8, 8);
  brush.globalAlpha = 0.45;
  brush.strokeStyle = colours.fault;
  brush.lineWidth = look.hatch === "dots" ? 1.6 : 0.8;
  brush.stroke(new Path2D(HATCHES[look.hatch]));
  const pattern = brush.createPattern(canvas, "repeat");
  pattern.setTransform(new DOMMatrix().scale(8 / canvas.width));
  return pattern;
}

/** An inline SVG of 16 by 12: `draw` gets a function that adds a path. */
function swatch(draw) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  for (const [name, value] of [["width", 18], ["height", 13], ["viewBox", "-9 -6.5 18 13"]]) {
    svg.setAttribute(name, value);
  }
  svg.setAttribute("aria-hidden", "true");
  draw((path, attributes) => {
    const shape = document.createElementNS("http://www.w3.org/2000/svg", "path");
    shape.setAttribute("d", path);
    for (const [name, value] of Object.entries(attributes)) shape.setAttribute(name, value);
    svg.append(shape);
  });
  return svg;
}

const markSwatch = (mark) => swatch((add) => add(mark.path, mark.line
  ? { "fill": "none", "stroke": `var(--${mark.colour})`, "stroke-width": mark.line }
  : { fill: `var(--${mark.colour})` }));

const HEAD_PATHS = {
  full: "M8 0L2-3.2V3.2Z",
  hollow: "M7.5 0L2.5-2.8V2.8Z",
  open: "M3-3L7.5 0L3 3",
  bar: "M6.5-4.5V4.5",
  cross: "M3-3L8 3M3 3L8-3",
};

const arrowSwatch = (look) => swatch((add) => {
  const colour = `var(--${look.colour})`;
  const end = look.head === "full" || look.head === "hollow" ? 2 : look.head === "cross" ? 3 : 6.5;
  add(`M-9 0H${end}`, {
    "fill": "none", "stroke": colour, "stroke-width": 1.5, "stroke-dasharray": look.dash.join(" "),
  });
  add(HEAD_PATHS[look.head], {
    "fill": look.head === "full" ? colour : "none", "stroke": colour, "stroke-width": 1.5,
  });
});

const spanSwatch = (look) => swatch((add) => {
  add("M-9-6H9V6H-9Z", { fill: `var(--${look.tint})` });
  const strokes = {
    rising: "M-9 3L0-6M-7 6L5-6M1 6L9-2", falling: "M9 3L0-6M7 6L-5-6M-1 6L-9-2",
    level: "M-9-3H9M-9 0H9M-9 3H9", upright: "M-6-6V6M-2-6V6M2-6V6M6-6V6",
    grid: "M-9-2H9M-9 2H9M-6-6V6M-2-6V6M2-6V6M6-6V6",
    dots: "M-7-3h1M-3-3h1M1-3h1M5-3h1M-5 0h1M-1 0h1M3 0h1M-7 3h1M-3 3h1M1 3h1M5 3h1", none: "",
  };
  add(strokes[look.hatch], { "fill": "none", "stroke": "var(--fault)", "stroke-width": 0.8 });
});
