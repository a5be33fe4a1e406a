#!/usr/bin/env python3
"""Opens pictures of runs in a real browser and uses them as people do.

    sim/picture/check.py FILE.html ... [--shots FOLDER]

Each page must load without a message on the console and without any request, draw, answer pointer
and keys, open at its violation if it has one, and draw its slowest frame within FRAME_MS_MAX.
Needs Debian's chromium and nothing else: the browser is driven through a pipe. Exit codes: 0 all
well, 1 something is wrong, 77 no browser here.
"""

import argparse
import base64
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

FRAME_MS_MAX = 100
WAIT_S = 30
NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-first-run", "--disable-extensions",
    "--disable-dev-shm-usage", "--hide-scrollbars", "--remote-debugging-pipe",
)

# Times each frame's drawing, up to the pixels: reading one back waits for all that was asked for.
STOPWATCH = """
  window.frameMillis = [];
  const ask = window.requestAnimationFrame.bind(window);
  window.requestAnimationFrame = (draw) => ask((now) => {
    const start = performance.now();
    draw(now);
    const canvas = document.getElementById("base");
    if (canvas && canvas.width) canvas.getContext("2d").getImageData(0, 0, 1, 1);
    window.frameMillis.push(performance.now() - start);
  });
"""


class Browser:
    """A browser of our own, and one page in it."""

    def __init__(self, program):
        self.profile = tempfile.TemporaryDirectory(prefix="picture-")
        ours_in, self.write_end = os.pipe()
        self.read_end, theirs_out = os.pipe()

        def ends():
            # The browser reads from descriptor 3 and writes to 4.
            spare_in, spare_out = os.dup(ours_in), os.dup(theirs_out)
            os.dup2(spare_in, 3)
            os.dup2(spare_out, 4)

        self.process = subprocess.Popen(
            [program, *FLAGS, f"--user-data-dir={self.profile.name}", "about:blank"],
            preexec_fn=ends, close_fds=False,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(ours_in)
        os.close(theirs_out)
        os.set_blocking(self.read_end, False)
        self.buffer, self.last, self.session = b"", 0, None
        self.complaints, self.requests, self.loaded = [], [], False
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Page.addScriptToEvaluateOnNewDocument", source=STOPWATCH)

    def close(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self.write_end)
        os.close(self.read_end)
        for _ in range(20):
            try:
                return self.profile.cleanup()
            except OSError:
                time.sleep(0.1)  # Its children are still writing.

    def _next(self, until):
        while b"\0" not in self.buffer:
            try:
                part = os.read(self.read_end, 1 << 20)
                if not part:
                    raise RuntimeError("the browser has ended")
                self.buffer += part
            except BlockingIOError:
                if time.monotonic() > until:
                    raise TimeoutError("the browser does not answer") from None
                time.sleep(0.002)
        line, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(line)

    def _note(self, event):
        name, said = event.get("method"), event.get("params", {})
        if name == "Runtime.exceptionThrown":
            details = said["exceptionDetails"]
            self.complaints.append(details.get("exception", {}).get("description", details["text"]))
        elif name == "Log.entryAdded" and "willReadFrequently" in said["entry"]["text"]:
            pass  # That is us, reading pixels back.
        elif name == "Runtime.consoleAPICalled":
            self.complaints.append(" ".join(str(a.get("value")) for a in said["args"]))
        elif name == "Log.entryAdded":
            self.complaints.append(said["entry"]["text"])
        elif name == "Network.requestWillBeSent":
            self.requests.append(said["request"]["url"])
        elif name == "Page.loadEventFired":
            self.loaded = True

    def call(self, method, **params):
        self.last += 1
        message = {"id": self.last, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.write_end, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + WAIT_S
        while True:
            answer = self._next(until)
            if answer.get("id") == self.last:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]
            self._note(answer)

    def run(self, script):
        """The value of an expression in the page."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True,
                           awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{script}: {answer['exceptionDetails']['text']}")
        return answer["result"].get("value")

    def size(self, width, height, density=1):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=density, mobile=False)

    def open(self, path, address=""):
        self.complaints, self.requests, self.loaded = [], [], False
        self.call("Page.navigate", url="about:blank")
        self.call("Page.navigate", url=pathlib.Path(path).resolve().as_uri() + address)
        until = time.monotonic() + WAIT_S
        while self.run("document.readyState + location.protocol") != "completefile:":
            if time.monotonic() > until:
                raise TimeoutError("the page does not load")
        self.settle()

    def settle(self):
        """Waits until what was asked for is drawn, and what that asked for."""
        self.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame("
                 "() => setTimeout(done, 20))))")

    def prefers(self, **features):
        """The user's preferences, as media features."""
        self.call("Emulation.setEmulatedMedia", features=[
            {"name": name.replace("_", "-"), "value": value} for name, value in features.items()])

    def key(self, key, shift=False):
        text = key if len(key) == 1 else ""
        extra = {"text": text} if text else {}
        codes = {"Home": 36, "Escape": 27, "ArrowRight": 39, "ArrowLeft": 37, "Enter": 13}
        code = codes.get(key, ord(key[0]))
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, modifiers=8 if shift else 0,
                      windowsVirtualKeyCode=code, **extra)
        self.settle()

    def mouse(self, kind, x, y, **more):
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def touch(self, kind, *places):
        self.call("Input.dispatchTouchEvent", type=kind, touchPoints=[
            {"x": x, "y": y, "id": finger} for finger, (x, y) in enumerate(places)])

    def shot(self, path):
        answer = self.call("Page.captureScreenshot", format="png")
        pathlib.Path(path).write_bytes(base64.b64decode(answer["data"]))


def text_of(browser, name):
    return browser.run(f"document.getElementById('{name}').textContent")


def tip_of(browser):
    return browser.run("document.getElementById('tip').hidden ? '' "
                       ": document.getElementById('tip').textContent")


def met(browser, x, y):
    """Whether the pointer at that place is at something."""
    browser.mouse("mouseMoved", x, y)
    browser.run("new Promise(requestAnimationFrame)")
    return tip_of(browser) != ""


def ink(browser):
    """Pixels of the drawing that are not empty."""
    return browser.run("""(() => {
        const canvas = document.getElementById("base");
        const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        let count = 0;
        for (let i = 3; i < data.length; i += 4) count += data[i] !== 0;
        return count;
    })()""")


def speed(browser, x, y):
    """Milliseconds that each step takes to draw, in and out through every level of detail, and
    along. The best of some rounds, more where it is slow: the machine has other things to do."""
    def drawn_in(step):
        browser.run("window.frameMillis = []")
        step()
        browser.run("new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
        return max(browser.run("window.frameMillis"), default=0)

    def wheel(delta):
        return lambda: browser.mouse("mouseWheel", x, y, deltaX=0, deltaY=delta)

    def drag(step):
        return lambda: browser.mouse("mouseMoved", x - 11 * step, y - 5 * step,
                                     button="left", buttons=1)

    best = None
    for count in range(8):
        if count >= 3 and max(best) < FRAME_MS_MAX / 2:
            break
        browser.key("Home")
        times = [drawn_in(wheel(delta)) for delta in [-300] * 12 + [300] * 12]
        browser.mouse("mousePressed", x, y, button="left", buttons=1, clickCount=1)
        times += [drawn_in(drag(step)) for step in range(20)]
        browser.mouse("mouseReleased", x - 220, y - 100, button="left", clickCount=1)
        best = [min(pair) for pair in zip(best, times)] if best else times
    return best


def check(browser, path, shots):
    """What is wrong with a page, as a list of sentences, and its slowest frame."""
    wrong = []

    def expect(holds, sentence):
        if not holds:
            wrong.append(sentence)

    browser.size(1440, 900)
    # Without glides, what a key does is there at once.
    browser.prefers(prefers_color_scheme="light", prefers_reduced_motion="reduce")
    browser.open(path)
    if shots:
        browser.shot(shots / f"{pathlib.Path(path).stem}.png")
    if browser.run("document.getElementById('app').hidden"):
        return [f"the script does not start: {browser.complaints}"], []
    holds = browser.run("""(() => {
        const run = JSON.parse(document.getElementById("run").textContent);
        return { lanes: run.lanes.length, events: run.events.at.length,
                 violations: run.violations.length, faults: run.spans.length };
    })()""")
    if holds["lanes"]:
        expect(ink(browser) > 2000, "nothing is drawn")
    if holds["violations"]:
        expect("violated" in tip_of(browser), "it does not open at the violation")
    stage = browser.run("(({ left, top, width, height }) => [left, top, width, height])"
                        "(document.getElementById('stage').getBoundingClientRect())")
    left, top, width, height = stage

    # Keys.
    browser.key("Home")
    whole = text_of(browser, "range")
    browser.key("+")
    expect(text_of(browser, "range") != whole, "+ does not zoom")
    browser.key("ArrowRight")
    browser.key("Home")
    expect(text_of(browser, "range") == whole, "Home does not show the whole run")
    if holds["events"] > 3:
        said = set()
        for _ in range(3):
            browser.key("n")
            said.add(text_of(browser, "said"))
        expect(len(said) == 3 and all(said), "n does not step from event to event")
    if holds["violations"]:
        browser.key("v")
        expect("violated" in tip_of(browser), "v does not lead to the violation")
    if holds["faults"]:
        browser.key("Home")
        browser.key("f")
        expect(tip_of(browser) != "", "f does not lead to a fault")
    browser.key("Escape")
    browser.key("Home")

    # A search, and a lane kept by its head.
    if holds["events"] > 3:
        browser.key("/")
        browser.call("Input.insertText", text="up 1")
        browser.settle()
        expect(text_of(browser, "matches") not in ("", "0"), "the search finds nothing")
        browser.key("Escape")
        browser.run("document.querySelector('.head').click()")
        browser.settle()
        expect(browser.run("document.querySelectorAll('.head.shrunk').length") > 0,
               "a click on a lane's name does not keep it")
        browser.key("a")
        expect(browser.run("document.querySelectorAll('.head.shrunk').length") == 0,
               "a does not bring all lanes back")
        browser.run("document.getElementById('search').value = ''; document.getElementById('search')"
                    ".dispatchEvent(new Event('input'))")

        # The pointer, along the upper lanes until it meets something.
        places = ((x, y) for y in range(int(top) + 8, int(top + min(height, 300)), 14)
                  for x in range(int(left) + 20, int(left + width), 47))
        expect(any(met(browser, x, y) for x, y in places), "the pointer meets nothing")

    millis = speed(browser, left + width / 2, top + height / 2)
    slowest = max(millis)
    expect(len(millis) > 40, f"only {len(millis)} frames were drawn")
    expect(slowest < FRAME_MS_MAX, f"a frame took {slowest:.0f} ms")

    # Fingers: two of them zoom, one that taps asks what is there.
    browser.key("Home")
    browser.call("Emulation.setTouchEmulationEnabled", enabled=True, maxTouchPoints=2)
    x, y = left + width / 2, top + min(height, 300) / 2
    before = text_of(browser, "range")
    for kind, gap in (("touchStart", 40), ("touchMove", 80), ("touchMove", 160), ("touchEnd", 0)):
        browser.touch(kind, *([(x - gap, y), (x + gap, y)] if gap else []))
    browser.settle()
    expect(text_of(browser, "range") != before, "two fingers do not zoom")
    browser.key("Home")
    if holds["events"] > 3:
        def tapped(x, y):
            browser.touch("touchStart", (x, y))
            browser.touch("touchEnd")
            browser.settle()
            return tip_of(browser) != ""

        places = ((left + width * part / 7, top + height * row / 9)
                  for row in range(1, 9) for part in range(1, 7))
        expect(any(tapped(x, y) for x, y in places), "a tap meets nothing")
    browser.call("Emulation.setTouchEmulationEnabled", enabled=False)

    # A narrow dark window, too.
    browser.prefers(prefers_color_scheme="dark", prefers_reduced_motion="no-preference")
    browser.size(480, 800)
    browser.settle()
    if holds["lanes"]:
        expect(ink(browser) > 500, "nothing is drawn in a narrow dark window")
    expect(browser.run("document.documentElement.scrollWidth <= innerWidth"),
           "a narrow window scrolls sideways")
    before = text_of(browser, "range")
    browser.key("+")
    time.sleep(0.4)
    expect(text_of(browser, "range") != before, "+ does not zoom where motion is welcome")

    expect(not browser.complaints, f"the console says: {browser.complaints}")
    own = pathlib.Path(path).resolve().as_uri()
    foreign = [url for url in browser.requests
               if not url.startswith((own, "about:", "data:"))]
    expect(not foreign, f"it asks for {foreign}")
    return wrong, sorted(millis)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pages", nargs="+", metavar="FILE.html")
    parser.add_argument("--shots", type=pathlib.Path, help="leave pictures of the pages here")
    asked = parser.parse_args()
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if not program:
        print("no browser here: apt-get install chromium", file=sys.stderr)
        return 77
    if asked.shots:
        asked.shots.mkdir(parents=True, exist_ok=True)
    failed = False
    browser = Browser(program)
    try:
        for page in asked.pages:
            wrong, millis = check(browser, page, asked.shots)
            middle = millis[len(millis) // 2] if millis else 0
            slowest = millis[-1] if millis else 0
            print(f"{page}: {len(millis)} steps drawn, median {middle:.1f} ms, slowest {slowest:.1f} ms"
                  f"{'' if wrong else ', ok'}")
            for sentence in wrong:
                print(f"  {sentence}")
            failed = failed or bool(wrong)
    finally:
        browser.close()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
