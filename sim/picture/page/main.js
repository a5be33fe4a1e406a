// Starts the page, and turns changes into frames: one a screen refresh, of what has changed.

const due = new Set();
let frameAsked = false;
let onPaper = false;

/** Something changed: time, lanes' places, filter, found, chosen, pointer, scroll, size, scheme. */
function changed(what) {
  due.add(what);
  if (frameAsked) return;
  frameAsked = true;
  requestAnimationFrame(frame);
}

const touches = (...kinds) => kinds.some((kind) => due.has(kind));

function frame(now) {
  frameAsked = false;
  if (flight) glide(now);
  if (touches("size", "scheme", "filter")) fit();
  if (touches("filter")) {
    markLegend();
    listLines();
  }
  if (touches("time", "size", "scheme", "filter", "found", "scroll")) paintBase();
  paintOverlay();
  if (touches("time", "size", "scheme", "pointer")) paintAxis();
  if (touches("time", "size", "scheme")) {
    paintOverview();
    markRange();
  }
  if (touches("time", "chosen", "filter", "size") && !flight) followView();
  if (touches("time", "chosen", "filter", "found", "size", "transcript")) paintTranscript();
  if (touches("chosen", "found")) markTools();
  paintTip();
  due.clear();
  if (flight) changed("time");
}

/** The lanes on a sheet of A4 or Letter that lies on its side, beside their heads. */
const PAPER = { width: 840, height: 440, rowMin: 7 };

/** Lays out the lanes, and gives every canvas the size it is shown at, in the screen's pixels. */
function fit() {
  const density = onPaper ? 2 : devicePixelRatio || 1;
  readColours(density);
  layOut(onPaper ? PAPER.height : scroller.clientHeight, onPaper ? PAPER.rowMin : ROW_MIN);
  placeHeads();
  const beside = element("content").clientWidth - heads.offsetWidth;
  view.width = onPaper ? PAPER.width : Math.max(50, beside);
  view.height = onPaper ? view.total : Math.max(50, scroller.clientHeight);
  stage.style.height = `${view.height}px`;
  const sized = [
    [base, view.height], [overlay, view.height], [overview, STRIP.overview], [axis, STRIP.axis],
  ];
  for (const [brush, height] of sized) {
    brush.canvas.width = Math.round(view.width * density);
    brush.canvas.height = Math.round(height * density);
    brush.canvas.style.width = `${view.width}px`;
    brush.canvas.style.height = `${height}px`;
    brush.setTransform(density, 0, 0, density, 0, 0);
  }
  countSlices();
}

/** "#t=71.2..73.4": a stretch of time, in seconds. */
function followAddress() {
  const stretch = /^#t=([\d.]+)\.\.([\d.]+)$/.exec(location.hash);
  if (!stretch) return false;
  element("app").scrollIntoView({ block: "nearest" });
  show(Number(stretch[1]) * 1e9, Number(stretch[2]) * 1e9);
  return true;
}

function start() {
  element("app").hidden = false;
  element("copy").hidden = false;
  element("go-violation").hidden = violations.length === 0;
  if (violations.length > 1) element("go-violation").textContent = "Go to the violations";
  element("violation-steps").hidden = violations.length === 0;
  element("fault-steps").hidden = faults.length === 0;
  element("wrong-table").open = element("wrong-table").querySelector("tbody tr") !== null;
  if (innerWidth < 860) toggleList();
  makeLegend();
  fit();
  whole(false);
  for (const what of ["size", "filter", "chosen"]) changed(what);
  if (!followAddress() && violations.length) showViolation(violations[0], false);
}

new ResizeObserver(() => changed("size")).observe(scroller);
scroller.addEventListener("scroll", () => changed("scroll"));
transcript.addEventListener("scroll", () => changed("transcript"));
addEventListener("scroll", () => changed("pointer"), { passive: true });
addEventListener("hashchange", followAddress);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => changed("scheme"));

// Paper: all lanes at once, in the colours of the printed page, and every table open.
let closed = [];
function turnToPaper() {
  if (!onPaper) {
    closed = [...document.querySelectorAll("details:not([open])")];
    for (const details of closed) details.open = true;
  }
  onPaper = true;
  scroller.scrollTop = 0;
  due.add("size");
  frame(performance.now());
}
function turnToScreen() {
  onPaper = false;
  for (const details of closed) details.open = false;
  changed("size");
}
addEventListener("beforeprint", turnToPaper);
addEventListener("afterprint", turnToScreen);
// Only now are the colours those of the printed page.
matchMedia("print").addEventListener("change", ({ matches }) => { if (matches) turnToPaper(); });

start();
