// The two strips above the lanes: the whole run with the view as a window in it, and the axis.

const overview = element("overview").getContext("2d");
const axis = element("axis").getContext("2d");
const STRIP = { overview: 40, axis: 30 };

/** How many events and arrows each slice of the run has; counted once for each width. */
let slices = new Float32Array(0);

function countSlices() {
  slices = new Float32Array(Math.max(1, Math.ceil(view.width / 2)));
  const count = (at) => {
    const slice = Math.floor((overviewX(at) / view.width) * slices.length);
    slices[Math.min(slices.length - 1, Math.max(0, slice))]++;
  };
  for (let i = 0; i < events.count; i++) count(events.at[i]);
  for (let i = 0; i < arrows.count; i++) count(arrows.sent[i]);
}

const overviewX = (at) => ((at / (run.end || 1) + 0.02) / 1.04) * view.width;
const overviewTime = (x) => ((x / view.width) * 1.04 - 0.02) * run.end;

function paintOverview() {
  overview.clearRect(0, 0, view.width, STRIP.overview);
  const floor = STRIP.overview - 3;
  for (const span of faults) {
    const left = overviewX(span.from);
    overview.fillStyle = hatches.get(span.kind);
    overview.fillRect(left, 3, Math.max(2, overviewX(span.to) - left), floor - 3);
  }
  const most = slices.reduce((a, b) => Math.max(a, b), 1);
  overview.fillStyle = colours.info;
  for (let slice = 0; slice < slices.length; slice++) {
    if (slices[slice] === 0) continue;
    const height = (Math.log2(1 + slices[slice]) / Math.log2(1 + most)) * (floor - 8);
    overview.fillRect(slice * 2, floor - height, 1.5, height);
  }
  for (const [from, to] of thinned) {
    overview.fillStyle = colours.caution;
    overview.fillRect(overviewX(from), floor, overviewX(to) - overviewX(from), 2);
  }
  for (const found of violations) {
    overview.fillStyle = colours.violation;
    overview.fillRect(overviewX(found.at) - 1.5, 0, 3, STRIP.overview);
  }
  const left = overviewX(view.from), right = overviewX(view.to);
  overview.fillStyle = colours.page;
  overview.globalAlpha = 0.72;
  overview.fillRect(0, 0, left, STRIP.overview);
  overview.fillRect(right, 0, view.width - right, STRIP.overview);
  overview.globalAlpha = 1;
  overview.strokeStyle = colours.focus;
  overview.lineWidth = 1.5;
  overview.strokeRect(left + 0.75, 0.75, Math.max(3, right - left - 1.5), STRIP.overview - 1.5);
}

/** A round step of time that leaves at least `room` pixels between two labels. */
function niceStep(room) {
  const least = room * perPixel();
  const power = 10 ** Math.floor(Math.log10(least));
  return power * ([1, 2, 5, 10].find((factor) => factor * power >= least) ?? 10);
}

function paintAxis() {
  axis.clearRect(0, 0, view.width, STRIP.axis);
  axis.font = LABEL_FONT;
  axis.textBaseline = "middle";
  paintPhases();
  // A label needs more room the finer it is.
  let step = niceStep(70);
  const decimals = (length) => Math.max(0, Math.min(9, Math.ceil(9 - Math.log10(length) - 1e-9)));
  step = niceStep(axis.measureText(`${seconds(view.to, decimals(step))} s`).width + 34);
  const digits = decimals(step);
  const start = Math.ceil(Math.max(0, view.from) / step);
  const minor = step / 5;
  axis.fillStyle = colours.line;
  for (let n = start * 5 - 5; n * minor <= Math.min(view.to, run.end); n++) {
    if (n >= 0) axis.fillRect(Math.round(xOf(n * minor)), STRIP.axis - 4, 1, 4);
  }
  for (let n = start; n * step <= Math.min(view.to, run.end); n++) {
    const x = Math.round(xOf(n * step));
    axis.fillStyle = colours.faint;
    axis.fillRect(x, STRIP.axis - 8, 1, 8);
    axis.fillStyle = colours.muted;
    axis.fillText(`${seconds(n * step, digits)} s`, x + 4, STRIP.axis - 9);
  }
  axis.fillStyle = colours.line;
  axis.fillRect(0, STRIP.axis - 1, view.width, 1);
  // A line along what was thinned, as in the overview.
  axis.fillStyle = colours.caution;
  for (const [from, to] of thinned) {
    const left = Math.max(0, xOf(from)), right = Math.min(view.width, xOf(to));
    if (right > left) axis.fillRect(left, STRIP.axis - 3, right - left, 3);
  }
  paintFlags();
  if (pointer && !pointer.dragging) paintPointerTime(Math.min(9, digits + 2));
}

function paintPhases() {
  for (const phase of phases) {
    const left = Math.max(0, xOf(phase.from)), right = Math.min(view.width, xOf(phase.to));
    if (right <= left) continue;
    axis.fillStyle = colours.line;
    if (phase.from > 0) axis.fillRect(Math.round(xOf(phase.from)), 0, 1, STRIP.axis);
    const width = axis.measureText(phase.label).width;
    if (right - left < width + 8) continue;
    axis.fillStyle = colours.faint;
    axis.fillText(phase.label, left + 4, 7);
  }
}

/** A flag for each violation; those that would overlap share one. */
function paintFlags() {
  let end = -Infinity;
  for (let k = 0; k < violations.length; k++) {
    const x = xOf(violations[k].at);
    if (x < -10 || x > view.width + 10 || x < end) continue;
    let more = 0;
    while (k + more + 1 < violations.length && xOf(violations[k + more + 1].at) < x + 40) more++;
    axis.font = `600 ${LABEL_FONT}`;
    const text = violations[k].checker + (more ? ` +${more}` : "");
    const width = axis.measureText(text).width + 10;
    const left = Math.min(x - 1, view.width - width);
    axis.fillStyle = colours.violation;
    axis.fillRect(left, 1, width, 16);
    axis.fillRect(x - 1, 1, 2, STRIP.axis);
    axis.fillStyle = colours["on-violation"];
    axis.fillText(text, left + 5, 9.5);
    axis.font = LABEL_FONT;
    end = left + width;
  }
}

function paintPointerTime(digits) {
  const text = `${seconds(timeOf(pointer.x), digits)} s`;
  const width = axis.measureText(text).width + 8;
  const left = Math.min(Math.max(0, pointer.x - width / 2), view.width - width);
  axis.fillStyle = colours.text;
  axis.fillRect(left, STRIP.axis - 17, width, 16);
  axis.fillStyle = colours.surface;
  axis.fillText(text, left + 4, STRIP.axis - 8.5);
}
