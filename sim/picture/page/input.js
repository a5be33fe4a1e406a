// Wheel, drag, pinch, keys, buttons: from what the user does to what the view does.

/** A press that moves less than this, in pixels, is a click. */
const CLICK_PX = 4;
const REACH_PX = 14;
const REACH_TOUCH_PX = 26;

// The stage

const presses = new Map();
let drag = null;
let pinch = null;

function placeOn(node, event) {
  const frame = node.getBoundingClientRect();
  return [event.clientX - frame.left, event.clientY - frame.top];
}

stage.addEventListener("wheel", (event) => {
  event.preventDefault();
  const unit = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 : 1;
  const [dx, dy] = [event.deltaX * unit, event.deltaY * unit];
  if (event.shiftKey) pan(dx || dy);
  else if (Math.abs(dx) > Math.abs(dy)) pan(dx);
  // A pinch on a touchpad comes as a wheel with Ctrl, in smaller steps.
  else zoom(Math.exp(-dy * (event.ctrlKey ? 0.01 : 0.002)), placeOn(stage, event)[0]);
}, { passive: false });

stage.addEventListener("pointerdown", (event) => {
  if (event.button > 0) return;
  stage.setPointerCapture(event.pointerId);
  const [x, y] = placeOn(stage, event);
  presses.set(event.pointerId, { x, y });
  if (presses.size === 2) {
    const [a, b] = presses.values();
    pinch = { gap: Math.max(20, Math.abs(a.x - b.x)), middle: (a.x + b.x) / 2 };
    drag = null;
  } else if (presses.size === 1) {
    drag = { x, y, startX: x, startY: y, moved: false };
  }
});

stage.addEventListener("pointermove", (event) => {
  const [x, y] = placeOn(stage, event);
  if (presses.has(event.pointerId)) presses.set(event.pointerId, { x, y });
  if (pinch && presses.size === 2) {
    const [a, b] = presses.values();
    const gap = Math.max(20, Math.abs(a.x - b.x)), middle = (a.x + b.x) / 2;
    zoom(gap / pinch.gap, middle);
    pan(pinch.middle - middle);
    pinch = { gap, middle };
    return;
  }
  if (drag) {
    drag.moved ||= Math.hypot(x - drag.startX, y - drag.startY) > CLICK_PX;
    if (drag.moved) {
      stage.classList.add("dragging");
      pointer = { x, y, dragging: true };
      view.hover = null;
      scroller.scrollTop -= y - drag.y;
      pan(drag.x - x);
      [drag.x, drag.y] = [x, y];
      return;
    }
  }
  if (event.pointerType === "mouse") point(x, y, REACH_PX);
});

function release(event) {
  presses.delete(event.pointerId);
  pinch = null;
  stage.classList.remove("dragging");
  const clicked = drag && !drag.moved && event.type === "pointerup";
  drag = null;
  const [x, y] = placeOn(stage, event);
  if (!clicked) {
    if (pointer) pointer = event.pointerType === "mouse" ? { x, y } : null;
    return changed("pointer");
  }
  const isMouse = event.pointerType === "mouse";
  const thing = nearestTo(x, y, isMouse ? REACH_PX : REACH_TOUCH_PX);
  // With a mouse the words stand at the pointer already.
  choose(thing, { quiet: isMouse });
}
stage.addEventListener("pointerup", release);
stage.addEventListener("pointercancel", release);
stage.addEventListener("pointerleave", () => {
  if (drag) return;
  [pointer, view.hover] = [null, null];
  changed("pointer");
});
stage.addEventListener("dblclick", (event) => zoom(3, placeOn(stage, event)[0]));

/** The pointer is here: what is it at? */
function point(x, y, reach) {
  pointer = { x, y };
  view.hover = nearestTo(x, y, reach);
  view.telling = false;
  changed("pointer");
}

// The strips

/** Drags on a strip; `move` gets where the drag began and where it is. */
function strip(node, move) {
  let start = null;
  node.addEventListener("pointerdown", (event) => {
    node.setPointerCapture(event.pointerId);
    const x = placeOn(node, event)[0];
    start = { x, last: x, from: view.from, to: view.to };
    move(start, x, true);
  });
  node.addEventListener("pointermove", (event) => {
    if (!start) return;
    const x = placeOn(node, event)[0];
    move(start, x, false);
    start.last = x;
  });
  for (const end of ["pointerup", "pointercancel"]) {
    node.addEventListener(end, () => { start = null; });
  }
}

strip(overview.canvas, (start, x, first) => {
  const length = start.to - start.from;
  const inside = overviewX(start.from) - 6 <= start.x && start.x <= overviewX(start.to) + 6;
  if (first && inside) return;
  const middle = inside
    ? start.from + length / 2 + overviewTime(x) - overviewTime(start.x) : overviewTime(x);
  show(middle - length / 2, middle + length / 2);
});
strip(axis.canvas, (start, x) => pan(start.last - x));
for (const node of [overview.canvas, axis.canvas]) {
  node.addEventListener("wheel", (event) => {
    event.preventDefault();
    const x = node === axis.canvas ? placeOn(node, event)[0] : view.width / 2;
    zoom(Math.exp(-event.deltaY * 0.002), x);
  }, { passive: false });
}

// Keys and buttons

const ACTIONS = {
  "violation-on": () => stepViolation(1),
  "violation-back": () => stepViolation(-1),
  "fault-on": () => stepFault(1),
  "fault-back": () => stepFault(-1),
  "zoom-in": () => zoom(1.6),
  "zoom-out": () => zoom(1 / 1.6),
  "whole": () => whole(),
  "earlier": () => pan(-view.width / 8),
  "later": () => pan(view.width / 8),
  "up": () => { scroller.scrollTop -= 60; },
  "down": () => { scroller.scrollTop += 60; },
  "next": () => stepItem(1),
  "previous": () => stepItem(-1),
  "search": () => element("search").select(),
  "list": toggleList,
  "all": showAll,
  "close-in": () => {
    if (!view.chosen) return;
    const [from, to] = extent(view.chosen);
    const around = Math.max((to - from) * 0.5, (view.to - view.from) / 16);
    show(from - around, to + around, true);
  },
  "let-go": () => choose(null),
  "help": () => element("help").showModal(),
};

const KEYS = {
  "+": "zoom-in", "=": "zoom-in", "-": "zoom-out", "_": "zoom-out",
  "ArrowLeft": "earlier", "ArrowRight": "later", "ArrowUp": "up", "ArrowDown": "down",
  "Home": "whole", "n": "next", "p": "previous", "z": "close-in",
  "v": "violation-on", "V": "violation-back", "f": "fault-on", "F": "fault-back",
  "/": "search", "t": "list", "a": "all", "Escape": "let-go", "?": "help",
};

function toggleList() {
  const hidden = board.classList.toggle("no-list");
  element("list-toggle").ariaPressed = String(!hidden);
  changed("size");
}

function showAll() {
  view.kept.clear();
  view.hiddenMarks.clear();
  view.hiddenVerdicts.clear();
  changed("filter");
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || element("help").open) return;
  const typing = event.target instanceof HTMLInputElement;
  if (typing && event.key !== "Escape") return;
  // Keys that scroll are left to what has something to scroll.
  const scrolls = event.target === transcript ? /^(Arrow|Home)/.test(event.key)
    : /^Arrow(Up|Down)/.test(event.key) && view.total <= view.height;
  const action = KEYS[event.key];
  if (!action || scrolls) return;
  event.preventDefault();
  if (typing) return event.target.blur();
  ACTIONS[action]();
});

for (const button of document.querySelectorAll("[data-do]")) {
  button.addEventListener("click", () => ACTIONS[button.dataset.do]());
}
element("all-lanes").addEventListener("click", () => {
  view.kept.clear();
  changed("filter");
});

element("search").addEventListener("input", (event) => search(event.target.value));
element("search").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || !view.found?.length) return;
  event.preventDefault();
  stepItem(event.shiftKey ? -1 : 1, view.found);
});

element("go-violation").addEventListener("click", (event) => {
  event.preventDefault();
  stepViolation(1);
  stage.focus({ preventScroll: true });
});

element("copy").addEventListener("click", async ({ target }) => {
  try {
    await navigator.clipboard.writeText(element("replay").textContent);
    target.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(element("replay"));
    target.textContent = "Selected";
  }
  setTimeout(() => { target.textContent = "Copy"; }, 1500);
});
