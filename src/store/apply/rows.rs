//! Writing rows of the event log: frozen names, computed identifiers, cursors, queues.

use std::sync::Arc;

use clock::WallTime;
use mac::{EventKind, EventSource, event_id};

use super::Applied;
use crate::model::{Device, Tags};
use crate::{DeviceInfo, Event, EventRow, Id, LogCode, LogLevel, State, codec};

/// Appends the rows that one proposal causes for one device.
pub(super) struct Rows<'a> {
    state: &'a mut State,
    applied: &'a mut Applied,
    device: Arc<DeviceInfo>,
}

impl<'a> Rows<'a> {
    /// Rows about `device`, as it is called now.
    pub(super) fn of(state: &'a mut State, applied: &'a mut Applied, device: &Device) -> Self {
        let device = Arc::new(state.device_info(device));
        Self { state, applied, device }
    }

    /// Appends a row.
    ///
    /// * `source`: what makes this event different from every other of its kind.
    pub(super) fn write(&mut self, source: &EventSource, time: WallTime, event: Event) {
        let kind = match &event {
            Event::Up(_) => EventKind::Up,
            Event::Join { .. } => EventKind::Join,
            Event::Status { .. } => EventKind::Status,
            Event::Ack { .. } => EventKind::Ack,
            Event::TxAck(_) => EventKind::TxAck,
            Event::Log { .. } => EventKind::Log,
        };
        let cluster = self.state.core.cluster.as_ref().map_or([0; 16], |cluster| cluster.id.0);
        let id = Id(event_id(cluster, self.device.dev_eui, kind, source));
        let device = Arc::clone(&self.device);
        let row = EventRow { sequence: self.state.events.next, id, time, device, event };
        let now = self.state.time();
        self.state.events.append(&codec::encode_event_row(&row), now);
        self.state.queue_event(&row, self.applied);
        self.applied.rows.push(row);
    }

    /// Appends a log row. Its identifier is that of its place: the same may happen again.
    pub(super) fn log(&mut self, level: LogLevel, code: LogCode, text: &str, context: Tags) {
        let description = text.to_owned();
        let (source, time) = (self.moment(), self.state.time());
        self.write(&source, time, Event::Log { level, code, description, context });
    }

    /// Says once that too many downlink numbers were skipped.
    pub(super) fn scarce_numbers(&mut self) {
        let text = "Downlink frame-counters are granted one by one: too many were skipped since \
                    the device was last known to receive one";
        self.log(LogLevel::Warning, LogCode::FCntDown, text, Tags::new());
    }

    /// State time.
    pub(super) const fn now(&self) -> WallTime {
        self.state.time()
    }

    /// A source that no other row has.
    pub(super) fn moment(&self) -> EventSource {
        let ordinal = u32::try_from(self.state.events.next & u64::from(u32::MAX));
        EventSource::Moment { at: self.state.time(), ordinal: ordinal.unwrap_or(u32::MAX) }
    }
}

impl State {
    /// Who and what a device is now.
    pub fn device_info(&self, device: &Device) -> DeviceInfo {
        let application = self.application(device.application_id);
        let profile = self.device_profile(device.device_profile_id);
        let tenant = application.and_then(|application| self.tenant(application.tenant_id));
        let mut tags = application.map_or_else(Tags::new, |application| application.tags.clone());
        for own in profile.map(|profile| &profile.tags).into_iter().chain([&device.tags]) {
            tags.extend(own.iter().map(|(name, value)| (name.clone(), value.clone())));
        }
        DeviceInfo {
            tenant_id: tenant.map(|tenant| tenant.id).unwrap_or_default(),
            tenant_name: tenant.map(|tenant| tenant.name.clone()).unwrap_or_default(),
            application_id: device.application_id,
            application_name: application.map(|one| one.name.clone()).unwrap_or_default(),
            device_profile_id: device.device_profile_id,
            device_profile_name: profile.map(|profile| profile.name.clone()).unwrap_or_default(),
            device_name: device.name.clone(),
            dev_eui: device.dev_eui,
            tags,
            region: profile.map(|p| p.mac.region.to_ascii_lowercase()).unwrap_or_default(),
        }
    }
}
