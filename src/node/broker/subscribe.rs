//! SUBSCRIBE and UNSUBSCRIBE. A filter wider than the account is granted and each message checked;
//! one that could never show anything is refused.

use std::sync::Arc;

use mqtt::{
    Coverage, Packet, PacketId, Qos, ReasonCode, RetainHandling, Suback, SubscribeEvent,
    SubscribeOptions, Subscription, TopicError, TopicFilter, coverage,
};
use store::model::MqttScope;
use store::{Command, MqttSubscription, Reply};

use super::client::Subscribed;
use super::deliver::Route;
use super::message::{Held, Message};
use super::{Broker, BrokerView, Note, Waiting};
use crate::input::StreamId;

/// A subscription that gets retained messages once it is acknowledged.
#[derive(Clone, Debug)]
pub(super) struct WantsRetained {
    filter: TopicFilter,
    qos: Qos,
    identifier: Option<u32>,
}

impl Broker {
    pub(super) fn subscribe(
        &mut self,
        view: BrokerView<'_>,
        stream: StreamId,
        event: SubscribeEvent,
    ) {
        let mut reasons = Vec::new();
        let (mut add, mut retained) = (Vec::new(), Vec::new());
        for (wanted, options) in event.requests {
            let text = match &wanted {
                Ok(wanted) => wanted.filter.as_str().to_owned(),
                Err(error) => error.to_string(),
            };
            let granted = self.grant(stream, wanted);
            reasons.push(match &granted {
                Ok(_) => options.qos.granted(),
                Err(reason) => {
                    let name = self.clients.get(&stream).map_or("", |client| client.name());
                    let (name, reason) = (name.to_owned(), *reason);
                    self.notes.push(Note::NotGranted { name, wanted: text, reason });
                    reason
                }
            });
            let Ok(filter) = granted else { continue };
            let identifier = event.subscription_id;
            let subscribed = Subscribed { filter: filter.clone(), options, identifier };
            let known = self.insert(stream, subscribed.clone());
            add.push(stored(&subscribed));
            let wants = match options.retain_handling {
                RetainHandling::Send => true,
                RetainHandling::SendIfNew => !known,
                RetainHandling::DoNotSend => false,
            };
            if wants {
                retained.push(WantsRetained { filter, qos: options.qos, identifier });
            }
        }
        let ack = Packet::Suback(Suback::new(event.packet_id, reasons));
        self.change_subscriptions(view, stream, ack, retained, add, Vec::new());
    }

    pub(super) fn unsubscribe(
        &mut self,
        view: BrokerView<'_>,
        stream: StreamId,
        packet_id: PacketId,
        filters: Vec<Result<Subscription, TopicError>>,
    ) {
        let mut reasons = Vec::new();
        let mut remove = Vec::new();
        for filter in filters {
            let Ok(subscription) = filter else {
                reasons.push(ReasonCode::TopicFilterInvalid);
                continue;
            };
            let text = subscription.filter.as_str().to_owned();
            let Some(client) = self.clients.get_mut(&stream) else { return };
            let known = client.subscriptions.remove(&text).is_some();
            self.routes.remove(&subscription.filter, stream);
            reasons.push(if known {
                ReasonCode::Success
            } else {
                ReasonCode::NoSubscriptionExisted
            });
            remove.push(text);
        }
        let ack = Packet::Unsuback(Suback::new(packet_id, reasons));
        self.change_subscriptions(view, stream, ack, Vec::new(), Vec::new(), remove);
    }

    /// Acknowledges at once, or when the log has it where the log keeps the session.
    fn change_subscriptions(
        &mut self,
        view: BrokerView<'_>,
        stream: StreamId,
        ack: Packet,
        retained: Vec<WantsRetained>,
        add: Vec<MqttSubscription>,
        remove: Vec<String>,
    ) {
        let Some(client) = self.clients.get(&stream) else { return };
        let nothing = add.is_empty() && remove.is_empty();
        let Some(fence) = client.fence.filter(|_| !nothing) else {
            self.send(view, stream, ack);
            return self.send_retained(view, stream, &retained);
        };
        let client_id = client.name().to_owned();
        let waiting = Waiting::Subscribe { stream, ack: Box::new(ack), retained };
        self.propose(waiting, Command::Subscribe { client_id, fence, add, remove });
    }

    pub(super) fn subscribed_by_log(
        &mut self,
        view: BrokerView<'_>,
        stream: StreamId,
        ack: Packet,
        retained: Vec<WantsRetained>,
        reply: &Reply,
    ) {
        match reply {
            Reply::Done => {
                self.send(view, stream, ack);
                self.send_retained(view, stream, &retained);
            }
            Reply::Refused(_) => self.end(view, stream, ReasonCode::QuotaExceeded),
            Reply::Uplink(_)
            | Reply::Join(_)
            | Reply::Plan(_)
            | Reply::Admitted(_)
            | Reply::ClientSession { .. } => {}
        }
        self.settle(view, stream);
    }

    fn grant(
        &self,
        stream: StreamId,
        wanted: Result<Subscription, TopicError>,
    ) -> Result<TopicFilter, ReasonCode> {
        let subscription = wanted.map_err(|error| error.suback_reason())?;
        if subscription.group.is_some() {
            return Err(ReasonCode::SharedSubscriptionsNotSupported);
        }
        let client = self.clients.get(&stream).ok_or(ReasonCode::UnspecifiedError)?;
        let scope = client.identity.as_ref().map(|identity| identity.scope);
        let grants: Vec<TopicFilter> = scope.map(grants_of).unwrap_or_default();
        match coverage(&grants, &subscription.filter) {
            Coverage::Nothing => Err(ReasonCode::NotAuthorized),
            Coverage::Part | Coverage::Whole => Ok(subscription.filter),
        }
    }

    /// Whether the client had it already.
    fn insert(&mut self, stream: StreamId, subscribed: Subscribed) -> bool {
        let route = Route::of(&subscribed);
        self.routes.insert(&subscribed.filter, stream, route);
        let Some(client) = self.clients.get_mut(&stream) else { return false };
        let text = subscribed.filter.as_str().to_owned();
        client.subscriptions.insert(text, subscribed).is_some()
    }

    fn send_retained(&mut self, view: BrokerView<'_>, stream: StreamId, wanted: &[WantsRetained]) {
        if wanted.is_empty() {
            return;
        }
        let Some(client) = self.clients.get_mut(&stream) else { return };
        let Some(scope) = client.identity.as_ref().map(|identity| identity.scope) else { return };
        for kept in view.state.retained_messages() {
            let Some(message) = Message::from_stored(&kept.message) else { continue };
            if !view.state.scope_allows(scope, message.topic.as_str()) {
                continue;
            }
            for wants in wanted.iter().filter(|wants| wants.filter.matches(&message.topic)) {
                let held = Held {
                    message: Arc::new(message.clone()),
                    place: None,
                    subscription_ids: wants.identifier.into_iter().collect(),
                    retain: true,
                };
                let _ = client.session.enqueue(held, message.qos.min(wants.qos));
            }
        }
        self.pump(view, stream);
    }
}

/// The filters that cover what an account may see. A tenant's applications come and go, so its
/// grant is wide and each message is checked.
fn grants_of(scope: MqttScope) -> Vec<TopicFilter> {
    let text = match scope {
        MqttScope::All => "#".to_owned(),
        MqttScope::Tenant(_) => "application/+/#".to_owned(),
        MqttScope::Application(id) => format!("application/{id}/#"),
    };
    TopicFilter::parse(&text).into_iter().collect()
}

fn stored(subscribed: &Subscribed) -> MqttSubscription {
    MqttSubscription {
        filter: subscribed.filter.as_str().to_owned(),
        qos: subscribed.options.qos.as_u8(),
        no_local: subscribed.options.no_local,
        retain_as_published: subscribed.options.retain_as_published,
        retain_handling: subscribed.options.retain_handling as u8,
        identifier: subscribed.identifier,
    }
}

/// The subscription as the log kept it; `None` if it makes no sense any more.
pub(super) fn restored(wanted: &MqttSubscription) -> Option<Subscribed> {
    let retain_handling = match wanted.retain_handling {
        1 => RetainHandling::SendIfNew,
        2 => RetainHandling::DoNotSend,
        _ => RetainHandling::Send,
    };
    Some(Subscribed {
        filter: TopicFilter::parse(&wanted.filter).ok()?,
        options: SubscribeOptions {
            qos: Qos::from_u8(wanted.qos)?,
            no_local: wanted.no_local,
            retain_as_published: wanted.retain_as_published,
            retain_handling,
        },
        identifier: wanted.identifier,
    })
}
