// What is pointed at: finding it, and the overlay with the pointer's time and rings around it and
// around what is chosen.

const overlay = element("overlay").getContext("2d");

let pointer = null;

function paintOverlay() {
  overlay.clearRect(0, 0, view.width, view.height);
  if (pointer && !pointer.dragging) {
    overlay.fillStyle = colours.faint;
    overlay.fillRect(Math.round(pointer.x), 0, 1, view.height);
  }
  if (view.chosen) paintRing(view.chosen, 2.5);
  if (view.hover) paintRing(view.hover, 1.8);
}

function paintRing(thing, width) {
  overlay.strokeStyle = colours.focus;
  overlay.lineWidth = width;
  // A violation is marked well enough.
  if (thing.violation) return;
  if (thing.span) {
    const left = xOf(thing.span.from), right = xOf(thing.span.to);
    const from = Math.max(-9, left), to = Math.min(view.width + 9, Math.max(right, left + 3));
    for (const [top, height] of spanRows(thing.span)) {
      overlay.strokeRect(from, top, to - from, height);
    }
  } else if (isArrow(thing.item)) {
    const line = clipped(...arrowLine(~thing.item));
    if (!line) return;
    overlay.globalAlpha = 0.35;
    overlay.lineWidth = 7;
    overlay.lineCap = "round";
    overlay.beginPath();
    overlay.moveTo(line[0], line[1]);
    overlay.lineTo(line[2], line[3]);
    overlay.stroke();
    overlay.globalAlpha = 1;
  } else {
    const x = xOf(events.at[thing.item]), y = yOf(events.lane[thing.item]);
    overlay.beginPath();
    overlay.arc(x, y, 9, 0, 2 * Math.PI);
    overlay.stroke();
  }
}

/** What lies nearest to a point of the stage, within `reach` pixels. */
function nearestTo(x, y, reach) {
  const marked = violations.filter((found) => Math.abs(xOf(found.at) - x) <= 5);
  const isOn = (lane) => Math.abs(yOf(lane) - y) < view.row[lane] / 2;
  const accused = marked.find(({ lanes: where }) => where.length === 0 || where.some(isOn));
  if (accused) return { violation: accused };
  let best = null, least = reach;
  for (const mark of drawn.events) {
    const distance = Math.hypot(mark.x - x, mark.y - y);
    if (distance < least) [least, best] = [distance, { item: mark.item }];
  }
  // A mark is smaller than an arrow is long: it wins when both are near.
  if (best && least < 8) return best;
  least = Math.min(least, reach * 0.7);
  for (const line of drawn.arrows) {
    const distance = distanceTo(line, x, y);
    if (distance < least) [least, best] = [distance, { item: line.item }];
  }
  if (best) return best;
  if (marked.length) return { violation: marked[0] };
  const inside = drawn.spans.findLast(({ left, top, width, height }) =>
    x >= left - 3 && x <= left + width + 3 && y >= top && y <= top + height);
  return inside ? { span: inside.span } : null;
}

function distanceTo({ x1, y1, x2, y2 }, x, y) {
  const dx = x2 - x1, dy = y2 - y1;
  const length = dx * dx + dy * dy;
  const part = length ? Math.min(1, Math.max(0, ((x - x1) * dx + (y - y1) * dy) / length)) : 0;
  return Math.hypot(x1 + part * dx - x, y1 + part * dy - y);
}
