//! What a picture is made of: lanes, events, arrows, spans, violations and the facts of its head.
//!
//! Times are virtual time since the start of the run. Texts are plain text of one line, shortened
//! to [`TEXT_LEN_MAX`] bytes when they come in; nothing in them is ever taken for HTML.

use std::time::Duration;

/// Longest text of a lane, an event, an arrow, a span or a violation, in bytes.
pub const TEXT_LEN_MAX: usize = 600;

/// Declares a plain enum whose values the page knows by number, name and words.
macro_rules! vocabulary {
    ($(#[$outer:meta])* $name:ident { $($(#[$inner:meta])* $value:ident = $key:literal,)+ }) => {
        $(#[$outer])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name { $($(#[$inner])* $value,)+ }

        impl $name {
            /// Every value, in the order of the numbers that the page uses.
            pub const ALL: &[Self] = &[$(Self::$value,)+];

            /// The name that style and script of the page use.
            pub fn name(self) -> &'static str {
                match self { $(Self::$value => $key,)+ }
            }
        }
    };
}

vocabulary! {
    /// What a lane stands for. Lanes are shown in this order, so that what devices send goes up
    /// and what they are sent comes down.
    LaneKind {
        /// The run itself: its phases, its judge, its auditor.
        World = "world",
        /// An MQTT client, an operator: whoever uses the network.
        Client = "client",
        /// A member of the cluster.
        Node = "node",
        /// A gateway.
        Gateway = "gateway",
        /// A device.
        Device = "device",
        /// Whoever replays and forges.
        Adversary = "adversary",
    }
}

vocabulary! {
    /// What an event is, which gives its mark.
    EventKind {
        /// Anything else.
        Note = "note",
        /// A join-request, a join-accept, an activation.
        Join = "join",
        /// A frame from a device.
        Uplink = "uplink",
        /// A frame for a device.
        Downlink = "downlink",
        /// An acknowledgement.
        Ack = "ack",
        /// Something became durable, or could not.
        Fsync = "fsync",
        /// A publication, a subscription, a connection.
        Mqtt = "mqtt",
        /// A call of the API.
        Api = "api",
        /// An election, a term, a change of membership.
        Raft = "raft",
        /// A fault strikes or ends. Kept when a long run is thinned.
        Fault = "fault",
        /// Something expected has not come about. Kept when a long run is thinned.
        Unmet = "unmet",
        /// A broken promise, as its line in the trace. Kept when a long run is thinned.
        Violation = "violation",
    }
}

vocabulary! {
    /// What became of a frame or a message.
    Verdict {
        /// It arrived and was taken: an uplink in the event log, a downlink heard.
        Accepted = "accepted",
        /// It arrived and acknowledges another one.
        Acknowledged = "acknowledged",
        /// It arrived and was known already.
        Duplicate = "duplicate",
        /// It arrived and was refused; `detail` says why.
        Refused = "refused",
        /// It arrived when nobody waited any more.
        TooLate = "too-late",
        /// It never arrived.
        Lost = "lost",
        /// It arrived, and nothing is to be said of it: keep-alives, polls, what waits for its
        /// verdict.
        Info = "info",
    }
}

vocabulary! {
    /// What a span of time is. All but the last two are faults.
    SpanKind {
        /// A machine without power.
        PowerCut = "power-cut",
        /// A dead process on a living machine.
        Kill = "kill",
        /// A process that is not scheduled.
        Pause = "pause",
        /// A disk that is full, slow or failing.
        Disk = "disk",
        /// Nothing passes between two lanes, one way or both; or among many.
        Link = "link",
        /// A wall clock that jumped or drifts.
        Clock = "clock",
        /// Another fault.
        Fault = "fault",
        /// A node leads.
        Leader = "leader",
        /// A part of the run: setup, faults, rest.
        Phase = "phase",
    }
}

impl SpanKind {
    /// Whether it is something gone wrong.
    pub fn is_fault(self) -> bool {
        !matches!(self, Self::Leader | Self::Phase)
    }
}

vocabulary! {
    /// How a run ended.
    Outcome {
        /// Nothing was violated, everything expected came about.
        Held = "held",
        /// A promise was broken.
        Violated = "violated",
        /// Nothing was broken, but something did not come about.
        Unmet = "unmet",
    }
}

/// A lane, as the builder that gave it out knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LaneId(pub(super) u16);

/// Somebody to whom things happen.
#[derive(Clone, Debug)]
pub(super) struct Lane {
    pub(super) name: String,
    pub(super) kind: LaneKind,
}

/// Something that happened in one lane.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) at: Duration,
    pub(super) lane: LaneId,
    pub(super) kind: EventKind,
    pub(super) text: String,
}

/// A frame or a message from lane to lane.
#[derive(Clone, Debug)]
pub struct Arrow {
    /// Who sent it.
    pub from: LaneId,
    /// Who was to get it.
    pub to: LaneId,
    /// When it left.
    pub sent_at: Duration,
    /// When it was there; `None` for ever when it was lost.
    pub arrived_at: Option<Duration>,
    /// What became of it; [`Verdict::Info`] until somebody knows.
    pub verdict: Verdict,
    /// What it is, in a few words: "up 3 confirmed".
    pub label: String,
    /// All that is to be said of it: data rate, port, why it was refused.
    pub detail: String,
}

/// Something that went on for a while.
#[derive(Clone, Debug)]
pub(super) struct Span {
    pub(super) from: Duration,
    /// `None`: until the end of the run.
    pub(super) to: Option<Duration>,
    pub(super) kind: SpanKind,
    /// Where; nowhere means everywhere.
    pub(super) lanes: Vec<LaneId>,
    pub(super) label: String,
}

/// A promise that did not hold.
#[derive(Clone, Debug)]
pub(super) struct Violation {
    pub(super) at: Duration,
    pub(super) checker: String,
    pub(super) lanes: Vec<LaneId>,
    pub(super) text: String,
}

/// What the head of the page says.
#[derive(Clone, Debug)]
pub struct Header {
    /// The scenario's title.
    pub title: String,
    /// The seed.
    pub seed: u64,
    /// How the run ended.
    pub outcome: Outcome,
    /// The process's exit code.
    pub exit_code: u8,
    /// Virtual time that passed.
    pub lasted: Duration,
    /// The hash over the whole trace, in hexadecimal.
    pub digest: String,
    /// The command line that runs it again: "cargo sim scenarios/first_light.toml --seed 7".
    pub replay: String,
    /// What the run has brought about: "accepted", 49.
    pub counts: Vec<(String, u64)>,
    /// What should have come about and did not.
    pub unmet: Vec<String>,
    /// What a long series of runs must hit at least once, and how often this run did.
    pub marks: Vec<(String, u64)>,
    /// The scenario file as it stands.
    pub scenario: String,
}

/// `text` on one line and not longer than [`TEXT_LEN_MAX`]; what is cut off leaves an ellipsis.
pub(super) fn bounded(text: &str) -> String {
    let one_line = |part: &str| part.replace(['\n', '\r'], " ");
    if text.len() <= TEXT_LEN_MAX {
        return one_line(text);
    }
    let end = (0..=TEXT_LEN_MAX - '…'.len_utf8()).rev().find(|end| text.is_char_boundary(*end));
    format!("{}…", one_line(&text[..end.unwrap_or(0)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_stays_on_one_line_and_within_its_bound() {
        assert_eq!(bounded("up 3\nconfirmed"), "up 3 confirmed");
        let whole = "x".repeat(TEXT_LEN_MAX);
        assert_eq!(bounded(&whole), whole);
        // A character of three bytes lies across the bound.
        for before in 0..4 {
            let long = format!("{}{}", "x".repeat(before), "€".repeat(TEXT_LEN_MAX));
            let short = bounded(&long);
            assert!(short.len() <= TEXT_LEN_MAX && short.len() > TEXT_LEN_MAX - 4, "{short}");
            assert!(short.ends_with("€…"));
        }
    }
}
