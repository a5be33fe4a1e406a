//! The page as a whole: its structure, its bounds, that hostile words stay words, and its life in
//! a real browser.

use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::synthetic::{CROWD, FLOOD, QUIET, ROUGH, run};
use super::*;

/// What `check.py` ends with where there is no browser.
const NO_BROWSER: i32 = 77;

fn html(picture: &Picture) -> String {
    let mut out = Vec::new();
    picture.write(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// What stands between two pieces of the page, which must be there.
fn between<'a>(page: &'a str, begin: &str, end: &str) -> &'a str {
    let from = page.find(begin).unwrap_or_else(|| panic!("no {begin}")) + begin.len();
    let length = page[from..].find(end).unwrap_or_else(|| panic!("no {end}"));
    &page[from..from + length]
}

fn data(page: &str) -> Value {
    serde_json::from_str(between(page, "id=\"run\">", "</script>")).unwrap()
}

fn header(title: &str) -> Header {
    Header {
        title: title.to_owned(),
        seed: u64::MAX,
        outcome: Outcome::Held,
        exit_code: 0,
        lasted: ms(3_000),
        digest: "0123456789abcdef0123".to_owned(),
        replay: "cargo sim a.toml --seed 18446744073709551615".to_owned(),
        counts: vec![("accepted".to_owned(), 49)],
        unmet: Vec::new(),
        marks: vec![("torn tail".to_owned(), 0)],
        scenario: "title = \"a\"".to_owned(),
    }
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// One of everything.
fn small() -> PictureBuilder {
    let mut picture = PictureBuilder::new();
    let dev10 = picture.lane("dev10", LaneKind::Device);
    let n1 = picture.lane("n1", LaneKind::Node);
    let dev2 = picture.lane("dev2", LaneKind::Device);
    assert_eq!(picture.lane("n1", LaneKind::World), n1, "a name is one lane");
    picture.event(ms(500), dev10, EventKind::Uplink, "up 0");
    let frame = picture.arrow(Arrow {
        from: dev10,
        to: n1,
        sent_at: ms(500),
        arrived_at: None,
        verdict: Verdict::Info,
        label: "up 0".to_owned(),
        detail: String::new(),
    });
    picture.settle(frame, Some(ms(560)), Verdict::Refused, "wrong MIC");
    let cut = picture.span(ms(1_000), SpanKind::PowerCut, &[n1], "power cut");
    picture.span(ms(1_500), SpanKind::Link, &[dev2, n1], "dev2 cannot reach n1");
    picture.span_ends(cut, ms(2_000));
    picture.violation(ms(2_500), "S7", &[dev2], "lost & \"gone\"");
    picture
}

#[test]
fn the_script_gets_lanes_in_order_and_everything_in_columns() {
    let found = data(&html(&small().finish(header("small"))));
    assert_eq!(found["end"], json!(3_000_000_000_u64));
    assert_eq!(found["lanes"], json!([["n1", 2], ["dev2", 4], ["dev10", 4]]));
    assert_eq!(
        found["events"],
        json!({ "at": [500_000_000], "lane": [2], "kind": [2], "text": ["up 0"] })
    );
    assert_eq!(
        found["arrows"],
        json!({
            "sent": [500_000_000], "arrived": [560_000_000], "from": [2], "to": [0],
            "verdict": [3], "label": ["up 0"], "detail": ["wrong MIC"],
        })
    );
    assert_eq!(
        found["spans"],
        json!([
            [1_000_000_000, 2_000_000_000, 0, [0], "power cut"],
            [1_500_000_000, null, 4, [1, 0], "dev2 cannot reach n1"],
        ])
    );
    assert_eq!(found["violations"], json!([[2_500_000_000_u64, "S7", [1], "lost & \"gone\""]]));
    let names = |list: &str, place: usize| found[list][place].as_str().unwrap().to_owned();
    assert_eq!(names("lane_kinds", 2), "node");
    assert_eq!(names("event_kinds", 2), "uplink");
    assert_eq!(names("verdicts", 3), "refused");
    assert_eq!(names("span_kinds", 4), "link");
}

#[test]
fn every_word_of_the_vocabulary_has_a_look() {
    let known = |table: &str| between(page::SCRIPT, &format!("const {table} = {{"), "\n};");
    for kind in EventKind::ALL {
        assert!(known("MARKS").contains(&format!("\"{}\":", kind.name())), "{kind:?}");
    }
    for verdict in Verdict::ALL {
        assert!(known("VERDICTS").contains(&format!("\"{}\":", verdict.name())), "{verdict:?}");
    }
    for kind in SpanKind::ALL.iter().filter(|kind| kind.is_fault()) {
        assert!(known("SPANS").contains(&format!("\"{}\":", kind.name())), "{kind:?}");
    }
}

#[test]
fn the_page_reads_without_script() {
    let mut held = header("a small run");
    held.unmet = vec!["4 devices joined, 5 expected".to_owned()];
    let page = html(&small().finish(held));
    assert!(!page.contains("{{"), "a place of the frame is not filled");
    for part in [
        "<h1>a small run</h1>",
        "<dt>seed</dt><dd>18446744073709551615</dd>",
        "<code id=\"replay\">cargo sim a.toml --seed 18446744073709551615</code>",
        "<div><dt>accepted</dt><dd>49</dd></div>",
        "<div class=\"none\"><dt>torn tail</dt><dd>0</dd></div>",
        "<tr><td><a href=\"#t=2.000000..3.000000\">2.500000</a></td><td>S7</td><td>dev2</td>\
         <td>lost &amp; &quot;gone&quot;</td></tr>",
        "<tr><td>end</td><td>not met</td><td></td><td>4 devices joined, 5 expected</td></tr>",
        "<td>1.000</td><td>n1</td><td>power cut</td></tr>",
        "<td>to the end</td><td>dev2, n1</td><td>dev2 cannot reach n1</td></tr>",
        "<pre>title = &quot;a&quot;</pre>",
    ] {
        assert!(page.contains(part), "the page has no {part}");
    }
}

#[test]
fn the_policy_lets_nothing_run_but_the_pages_own_script() {
    let page = html(&small().finish(header("policy")));
    let policy = between(&page, "Content-Security-Policy\" content=\"", "\"");
    assert!(policy.starts_with("default-src 'none'; "));
    for (element, begin) in [("script", "<script>"), ("style", "<style>")] {
        let text = between(&page, begin, &format!("</{element}>"));
        let hash = base64::Engine::encode(
            &base64::engine::general_purpose::STANDARD,
            Sha256::digest(text),
        );
        assert!(policy.contains(&format!("{element}-src 'sha256-{hash}'")), "{element}");
    }
    assert!(
        !page.contains(" src=") && !page.contains("href=\"http"),
        "the page asks for something"
    );
}

#[test]
fn hostile_words_stay_words() {
    let hostile = "</script><script>alert(1)</script><!-- \u{2028} <b onload='x'>\"&";
    let mut picture = PictureBuilder::new();
    let lane = picture.lane(hostile, LaneKind::Device);
    picture.event(ms(1), lane, EventKind::Note, hostile);
    picture.arrow(Arrow {
        from: lane,
        to: lane,
        sent_at: ms(1),
        arrived_at: Some(ms(2)),
        verdict: Verdict::Accepted,
        label: hostile.to_owned(),
        detail: hostile.to_owned(),
    });
    picture.span(ms(1), SpanKind::Fault, &[lane], hostile);
    picture.violation(ms(2), hostile, &[lane], hostile);
    let page = html(&picture.finish(Header {
        outcome: Outcome::Violated,
        digest: hostile.to_owned(),
        replay: hostile.to_owned(),
        counts: vec![(hostile.to_owned(), 1)],
        unmet: vec![hostile.to_owned()],
        marks: vec![(hostile.to_owned(), 1)],
        scenario: hostile.to_owned(),
        ..header(hostile)
    }));
    assert_eq!(page.matches("<script").count(), 2, "the data and the script");
    assert_eq!(page.matches("</script").count(), 2);
    assert!(!page.contains("<!--") && !page.contains("<b "));
    assert!(!between(&page, "id=\"run\">", "</script>").contains(['<', '\u{2028}']));
    assert_eq!(data(&page)["events"]["text"][0], json!(hostile));
    assert_eq!(data(&page)["lanes"][0][0], json!(hostile));
}

#[test]
fn a_flood_is_thinned_around_what_matters() {
    let page = html(&run(FLOOD));
    let found = data(&page);
    let length = |list: &Value| list.as_array().unwrap().len();
    assert!(length(&found["events"]["at"]) <= EVENTS_MAX, "too many events");
    assert!(length(&found["arrows"]["sent"]) <= ARROWS_MAX, "too many arrows");
    assert!(length(&found["arrows"]["sent"]) > ARROWS_MAX / 2, "needlessly few arrows");
    let left_out = |list: &str| -> u64 {
        let stretches = found[list].as_array().unwrap().iter();
        stretches.map(|stretch| stretch[2].as_u64().unwrap()).sum()
    };
    assert!(left_out("thinned_events") > 0 && left_out("thinned_arrows") > 0);
    for what in ["events are left out", "arrows are left out"] {
        assert!(page.contains(what), "the page does not say that {what}");
    }
    // No stretch with something left out comes near the violation.
    let violated = found["violations"][0][0].as_u64().unwrap();
    for stretch in found["thinned_events"].as_array().unwrap() {
        let (from, to) = (stretch[0].as_u64().unwrap(), stretch[1].as_u64().unwrap());
        let near = 2_000_000_000;
        assert!(to + near < violated || violated + near < from, "thinned {from}..{to}");
    }
    let kinds = found["events"]["kind"].as_array().unwrap().iter();
    let kept = kinds.filter(|kind| kind.as_u64() == Some(EventKind::Fault as u64)).count();
    assert_eq!(kept, 10, "every fault's own line stays");
}

#[test]
fn what_comes_after_a_bound_is_counted() {
    let mut picture = PictureBuilder::new();
    for number in 0..LANES_MAX + 5 {
        for _ in 0..2 {
            let lane = picture.lane(&format!("dev{number}"), LaneKind::Device);
            picture.event(ms(1), lane, EventKind::Note, "here");
        }
    }
    let lane = picture.lane("dev0", LaneKind::Device);
    for _ in 0..SPANS_MAX + 2 {
        let span = picture.span(ms(1), SpanKind::Fault, &[lane], "fault");
        picture.span_ends(span, ms(2));
    }
    for _ in 0..VIOLATIONS_MAX + 3 {
        picture.violation(ms(1), "S1", &[lane], "again");
    }
    let page = html(&picture.finish(header("bounds")));
    for words in [
        "5 lanes share the last lane.",
        "2 later faults are not shown.",
        "3 later violations are not shown.",
    ] {
        assert!(page.contains(words), "the page does not say {words}");
    }
    let found = data(&page);
    assert_eq!(found["lanes"].as_array().unwrap().len(), usize::from(LANES_MAX));
    assert_eq!(found["spans"].as_array().unwrap().len(), SPANS_MAX);
    assert_eq!(found["violations"].as_array().unwrap().len(), VIOLATIONS_MAX);
}

#[test]
fn an_empty_run_is_a_page_too() {
    let found = data(&html(&PictureBuilder::new().finish(header("nothing"))));
    assert_eq!(found["lanes"], json!([]));
}

#[test]
fn the_same_run_gives_the_same_page() {
    assert!(html(&run(ROUGH)) == html(&run(ROUGH)), "two pages of one run differ");
}

/// Leaves pages in `target/pictures`, to be looked at, and uses them in a real browser.
#[test]
fn pages_live_in_a_real_browser() {
    let empty = PictureBuilder::new().finish(header("Nothing happened"));
    let rough = html(&run(ROUGH));
    // The policy must hold back a script that is not the page's own, and the check must notice.
    let foreign = rough.replacen("\"use strict\";", "\"use strict\"; ", 1);
    let Some((passed, said)) = in_browser(&[("foreign", foreign)]) else { return };
    assert!(!passed && said.contains("the script does not start"), "\n{said}");
    let pages = [
        ("quiet", html(&run(QUIET))),
        ("rough", rough),
        ("crowd", html(&run(CROWD))),
        ("flood", html(&run(FLOOD))),
        ("empty", html(&empty)),
    ];
    let Some((passed, said)) = in_browser(&pages) else { return };
    assert!(passed, "\n{said}");
    eprintln!("{said}");
}

/// Whether pages pass `check.py`, and what it says; nothing where there is no browser.
fn in_browser(pages: &[(&str, String)]) -> Option<(bool, String)> {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/pictures"));
    std::fs::create_dir_all(&folder).unwrap();
    let mut check = Command::new("python3");
    check.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/picture/check.py"));
    for (name, page) in pages {
        let file = folder.join(name).with_extension("html");
        std::fs::write(&file, page).unwrap();
        check.arg(file);
    }
    let output = match check.output() {
        Ok(output) => output,
        Err(error) => {
            eprintln!("SKIPPED: no python3 here to drive a browser: {error}");
            return None;
        }
    };
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    if output.status.code() == Some(NO_BROWSER) {
        eprintln!("SKIPPED: {said}");
        return None;
    }
    Some((output.status.success(), said))
}
