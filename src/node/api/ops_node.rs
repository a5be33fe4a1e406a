//! The event log, the live view, the node itself.

use std::collections::BTreeMap;

use lorawan::{DevEui, GatewayEui};

use super::desk::{Answer, Desk, denied, parse_eui};
use super::error::ApiError;
use super::feed::{Reader, Sight, Watcher};
use super::operation::{EventFilter, MemberFilter, Outcome, WatchFilter};
use super::wire::WatchLine;
use crate::effect::ClusterAsk;

/// Events on a page if nobody says how many.
const EVENTS_DEFAULT: u32 = 100;
/// Most events on a page.
const EVENTS_MAX: u32 = 1_000;

impl Desk<'_> {
    /// What the caller may see of events and lines.
    fn sight(&self) -> Sight {
        if self.who.is_admin {
            return Sight::All;
        }
        let state = self.view.state;
        let tenants = state.tenants().map(|one| one.id);
        Sight::Tenants(tenants.filter(|id| self.rights(*id).read).collect())
    }

    pub(super) fn read_events(&self, filter: &EventFilter) -> Result<Answer, ApiError> {
        let state = self.view.state;
        let application = match filter.application_id.as_str() {
            "" => None,
            text => Some(self.application(text)?.id),
        };
        // A device that is gone still has its events.
        let device = match filter.dev_eui.as_str() {
            "" => None,
            text => match text.parse::<DevEui>() {
                Ok(dev_eui) => Some(dev_eui),
                Err(_) => Some(self.device(text)?.0.dev_eui),
            },
        };
        let from = filter.after.map_or(state.next_event(), |after| after.saturating_add(1));
        let limit = if filter.limit == 0 { EVENTS_DEFAULT } else { filter.limit.min(EVENTS_MAX) };
        let reader = Reader::new(from.max(1), limit, application, device, self.sight());
        Ok(Answer::Read { reader, wait: filter.wait })
    }

    pub(super) fn watch(&self, filter: &WatchFilter) -> Result<Answer, ApiError> {
        let device = match filter.dev_eui.as_str() {
            "" => None,
            text => match text.parse::<DevEui>() {
                Ok(dev_eui) => Some(dev_eui),
                Err(_) => Some(self.device(text)?.0.dev_eui),
            },
        };
        let gateway = match filter.gateway_id.as_str() {
            "" => None,
            text => Some(parse_eui::<GatewayEui>("gatewayId", text)?),
        };
        let watcher = Watcher { after: filter.after, device, gateway, sight: self.sight() };
        Ok(Answer::Watch { watcher, wait: filter.wait })
    }

    pub(super) fn watch_members(&self, filter: &MemberFilter) -> Result<Answer, ApiError> {
        if !self.who.is_admin {
            return Err(denied("a global administrator"));
        }
        Ok(Answer::WatchMembers { after: filter.after, wait: filter.wait })
    }

    pub(super) fn get_node(&self) -> Result<Answer, ApiError> {
        let state = self.view.state;
        let mut info = self.view.node.info();
        info.state = self.view.node.state();
        info.applied = state.applied_index();
        info.events = (state.first_event(), state.next_event());
        info.counts = BTreeMap::new();
        for (kind, count) in [
            ("tenants", state.tenants().count()),
            ("users", state.users().count()),
            ("applications", state.applications().count()),
            ("gateways", state.gateways().count()),
            ("devices", state.device_count()),
        ] {
            info.counts.insert(kind.to_owned(), u64::try_from(count).unwrap_or(u64::MAX));
        }
        if !self.who.is_admin {
            info.data = String::new();
            info.counts.clear();
        }
        Ok(Answer::Now(Outcome::Node(Box::new(info))))
    }

    pub(super) fn note_refusals(&self, reason: &str, count: u64) -> Result<Answer, ApiError> {
        self.need_admin()?;
        Ok(Answer::Line(WatchLine {
            time: self.view.now.wall,
            kind: "http".to_owned(),
            verdict: match count {
                1 => format!("request refused: {reason}"),
                count => format!("{count} requests refused: {reason}"),
            },
            ..WatchLine::default()
        }))
    }

    /// Addresses of nodes are for whoever keeps them running.
    pub(super) fn get_cluster(&self) -> Result<Answer, ApiError> {
        if self.who.is_admin {
            return Ok(Answer::Host(ClusterAsk::Describe));
        }
        Err(ApiError::PermissionDenied("this needs a global administrator".into()))
    }

    pub(super) fn change_cluster(&self, ask: ClusterAsk) -> Result<Answer, ApiError> {
        self.need_admin()?;
        Ok(Answer::Host(ask))
    }

    pub(super) fn drain(&self) -> Result<Answer, ApiError> {
        if self.who.is_writing_admin() {
            return Ok(Answer::Drain);
        }
        Err(denied("a global administrator"))
    }
}
