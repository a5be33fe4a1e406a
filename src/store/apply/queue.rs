//! The downlink queue of a device, as applications and people change it. What is handed out is in
//! somebody's hands: it can be neither flushed nor cancelled (dangers C8).

use lorawan::DevEui;
use sabotage::Bug;

use super::{Applied, Change, Decision};
use crate::limits::{DEVICE_QUEUE_MAX, DOWNLINK_BYTES_MAX};
use crate::model::{ItemState, QueueItem};
use crate::{Id, Refusal, Reply, State};

impl State {
    pub(super) fn enqueue(
        &mut self,
        dev_eui: DevEui,
        item: &QueueItem,
        applied: &mut Applied,
    ) -> Decision {
        let device = self.need_device(dev_eui)?;
        if !(1..=223).contains(&item.f_port) {
            let text = format!("FPort {} is not within 1..=223", item.f_port);
            return Err(Refusal::Invalid(text));
        }
        if item.data.len() > DOWNLINK_BYTES_MAX {
            let bytes = item.data.len();
            let text = format!("{bytes} bytes, a frame carries at most {DOWNLINK_BYTES_MAX}");
            return Err(Refusal::Invalid(text));
        }
        if device.queue.iter().any(|queued| queued.id == item.id) {
            return Err(Refusal::AlreadyExists(format!("queue item {}", item.id)));
        }
        if device.queue.len() >= DEVICE_QUEUE_MAX {
            let text = format!("{DEVICE_QUEUE_MAX} downlinks wait for this device already");
            return Err(Refusal::LimitReached(text));
        }
        let created_at = self.time();
        self.change_device(dev_eui, |device| {
            device.queue.push(QueueItem { created_at, ..item.clone() });
            if sabotage::planted(Bug::QueueLifo) {
                device.queue.rotate_right(1);
            }
        });
        applied.changes.push(Change::DeviceQueue(dev_eui));
        Ok(Reply::Done)
    }

    pub(super) fn flush_queue(&mut self, dev_eui: DevEui, applied: &mut Applied) -> Decision {
        self.need_device(dev_eui)?;
        self.change_device(dev_eui, |device| {
            device.queue.retain(|item| item.state != ItemState::Queued);
        });
        applied.changes.push(Change::DeviceQueue(dev_eui));
        Ok(Reply::Done)
    }

    pub(super) fn cancel_item(
        &mut self,
        dev_eui: DevEui,
        item_id: Id,
        applied: &mut Applied,
    ) -> Decision {
        let device = self.need_device(dev_eui)?;
        let Some(item) = device.queue.iter().find(|item| item.id == item_id) else {
            return Err(Refusal::NotFound(format!("queue item {item_id}")));
        };
        if item.state != ItemState::Queued {
            return Err(Refusal::InUse("already handed out".into()));
        }
        self.change_device(dev_eui, |device| device.queue.retain(|item| item.id != item_id));
        applied.changes.push(Change::DeviceQueue(dev_eui));
        Ok(Reply::Done)
    }
}
