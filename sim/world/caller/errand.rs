//! Questions as operations of the API, and its replies as answers.
//!
//! A reply is an answer only if it says what became of the call. `NotFound`, `AlreadyExists` and
//! the conflict of a queue item speak of the state. No quorum, a full disk, a node that starts and
//! a limit say that nothing was changed. An unknown outcome says that it is unknown, and so does
//! *stopping*: a node that dies with a call in its hands answers it that way, whatever it had
//! handed to the log. Everything else is never deserved here: an odd answer, which fits no state.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use host::service::CallReply;
use lorawan::{DevEui, GatewayEui};
use node::api::wire::{Application, Device, Gateway, QueueItem, Tags};
use node::api::{ApiError, Operation, Outcome, Unavailable};
use store::Id;

use super::SHELF;
use crate::dice::Seed;
use crate::history::{
    Answer, Item, Question, QueueInput, QueueOutput, RegisterInput, RegisterOutput,
};
use crate::world::operator::TENANT;

/// Where the downlinks go.
const F_PORT: u32 = 10;
/// The tag that repeats a value.
const TAG: &str = "value";

/// Something that is asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Thing {
    Device(DevEui),
    Gateway(GatewayEui),
    /// By its name: identifiers are the server's.
    Application(String),
    /// Of a device that stays.
    Queue(DevEui),
}

/// What an error says of the call.
enum Refusal {
    Unknown,
    NotDone,
    NotFound,
    AlreadyExists,
    Conflict,
    Odd,
}

impl Refusal {
    fn of(error: &ApiError) -> Self {
        match error {
            ApiError::UnknownOutcome | ApiError::Unavailable(Unavailable::Stopping) => {
                Self::Unknown
            }
            ApiError::Unavailable(
                Unavailable::NoQuorum
                | Unavailable::DiskFull
                | Unavailable::Starting
                | Unavailable::CatchingUp,
            )
            | ApiError::ResourceExhausted(_) => Self::NotDone,
            ApiError::NotFound(_) => Self::NotFound,
            ApiError::AlreadyExists(_) => Self::AlreadyExists,
            ApiError::Conflict(_) => Self::Conflict,
            ApiError::InvalidArgument { .. }
            | ApiError::Unauthenticated(_)
            | ApiError::PermissionDenied(_)
            | ApiError::Unimplemented(_) => Self::Odd,
        }
    }
}

impl Thing {
    pub(super) fn is_queue(&self) -> bool {
        matches!(self, Self::Queue(_))
    }

    /// Under which it stands in the history.
    pub(super) fn key(&self) -> String {
        match self {
            Self::Device(id) => format!("device {id}"),
            Self::Gateway(id) => format!("gateway {id}"),
            Self::Application(name) => format!("application {name}"),
            Self::Queue(id) => format!("queue of {id}"),
        }
    }

    /// What makes it, if it must be there from the beginning.
    pub(super) fn foundation(&self) -> Option<Operation> {
        let Self::Queue(id) = self else { return None };
        Some(Operation::CreateDevice(device(*id, "a silent device")))
    }

    /// The operation that asks this.
    pub(super) fn operation(&self, question: &Question) -> Operation {
        use RegisterInput as I;
        match (self, question) {
            (Self::Queue(id), Question::Queue(input)) => queue_operation(*id, input),
            (Self::Device(id), Question::Register(input)) => match input {
                I::Create(value) => Operation::CreateDevice(device(*id, value)),
                I::Update(value) => Operation::UpdateDevice(device(*id, value)),
                I::Delete => Operation::DeleteDevice(id.to_string()),
                I::Get => Operation::GetDevice(id.to_string()),
            },
            (Self::Gateway(id), Question::Register(input)) => match input {
                I::Create(value) => Operation::CreateGateway(gateway(*id, value)),
                I::Update(value) => Operation::UpdateGateway(gateway(*id, value)),
                I::Delete => Operation::DeleteGateway(id.to_string()),
                I::Get => Operation::GetGateway(id.to_string()),
            },
            (Self::Application(name), Question::Register(input)) => match input {
                I::Create(value) => Operation::CreateApplication(application(name, value)),
                I::Update(value) => Operation::UpdateApplication(application(name, value)),
                I::Delete => Operation::DeleteApplication(name.clone()),
                I::Get => Operation::GetApplication(name.clone()),
            },
            (Self::Device(_) | Self::Gateway(_) | Self::Application(_), Question::Queue(_))
            | (Self::Queue(_), Question::Register(_)) => {
                panic!("{self:?} is asked as what it is not: {question:?}")
            }
        }
    }
}

/// What a reply says; `None` if it does not say what became of the call.
pub(super) fn answer(question: &Question, reply: CallReply) -> Option<Answer> {
    match question {
        Question::Register(input) => register_answer(input, reply).map(Answer::Register),
        Question::Queue(input) => queue_answer(input, reply).map(Answer::Queue),
    }
}

/// That nothing came of a call.
pub(super) fn not_done(question: &Question) -> Answer {
    match question {
        Question::Register(_) => Answer::Register(RegisterOutput::NotDone),
        Question::Queue(_) => Answer::Queue(QueueOutput::NotDone),
    }
}

fn tags(value: &str) -> Tags {
    Tags::from([(TAG.to_owned(), value.to_owned())])
}

fn device(id: DevEui, value: &str) -> Device {
    Device {
        dev_eui: id.to_string(),
        name: value.to_owned(),
        description: value.to_owned(),
        application_id: SHELF.to_owned(),
        device_profile_id: SHELF.to_owned(),
        tags: tags(value),
        ..Device::default()
    }
}

fn gateway(id: GatewayEui, value: &str) -> Gateway {
    Gateway {
        gateway_id: id.to_string(),
        name: value.to_owned(),
        description: value.to_owned(),
        tenant_id: TENANT.to_owned(),
        tags: tags(value),
        ..Gateway::default()
    }
}

fn application(name: &str, value: &str) -> Application {
    Application {
        // A name does as well, and is not looked at where the server draws an identifier.
        id: name.to_owned(),
        name: name.to_owned(),
        description: value.to_owned(),
        tenant_id: TENANT.to_owned(),
        tags: tags(value),
    }
}

fn queue_operation(id: DevEui, input: &QueueInput) -> Operation {
    let device = id.to_string();
    match input {
        QueueInput::Enqueue(name) => {
            let item = QueueItem {
                id: item_id(name),
                dev_eui: device,
                f_port: F_PORT,
                data: STANDARD.encode(name),
                ..QueueItem::default()
            };
            Operation::Enqueue { item, flush: false }
        }
        QueueInput::Flush => Operation::FlushQueue(device),
        QueueInput::Cancel(name) => Operation::CancelItem { device, item: item_id(name) },
        QueueInput::List => Operation::GetQueue { device, count_only: false },
    }
}

/// The identifier that goes with an item's name, the same in every run.
fn item_id(name: &str) -> String {
    let mut id = [0; 16];
    id.copy_from_slice(&Seed(0).bytes(name)[..16]);
    Id::from_random(id).to_string()
}

/// The value of which all parts tell; a torn one is none that anybody has written.
fn value_of(parts: &[&str], tags: &Tags) -> RegisterOutput {
    let tag = tags.get(TAG).map_or("", String::as_str);
    if parts.iter().all(|part| *part == tag) {
        return RegisterOutput::Value(tag.to_owned());
    }
    RegisterOutput::Value(format!("torn: {parts:?} {tags:?}"))
}

fn register_answer(input: &RegisterInput, reply: CallReply) -> Option<RegisterOutput> {
    use RegisterOutput as O;
    let outcome = match reply {
        Ok(outcome) => outcome,
        Err(error) => {
            return match Refusal::of(&error) {
                Refusal::Unknown => None,
                Refusal::NotDone => Some(O::NotDone),
                Refusal::NotFound => Some(O::NotFound),
                Refusal::AlreadyExists => Some(O::AlreadyExists),
                Refusal::Conflict | Refusal::Odd => Some(O::Odd(error.to_string())),
            };
        }
    };
    let reads = *input == RegisterInput::Get;
    if let (false, Outcome::Empty(_) | Outcome::Created(_)) = (reads, &outcome) {
        return Some(O::Done);
    }
    if let (true, Outcome::Device(one)) = (reads, &outcome) {
        return Some(value_of(&[&one.device.name, &one.device.description], &one.device.tags));
    }
    if let (true, Outcome::Gateway(one)) = (reads, &outcome) {
        return Some(value_of(&[&one.gateway.name, &one.gateway.description], &one.gateway.tags));
    }
    if let (true, Outcome::Application(one)) = (reads, &outcome) {
        return Some(value_of(&[&one.application.description], &one.application.tags));
    }
    Some(O::Odd(format!("{outcome:?}")))
}

fn queue_answer(input: &QueueInput, reply: CallReply) -> Option<QueueOutput> {
    use QueueOutput as O;
    let outcome = match reply {
        Ok(outcome) => outcome,
        Err(error) => {
            return match Refusal::of(&error) {
                Refusal::Unknown => None,
                Refusal::NotDone => Some(O::NotDone),
                Refusal::NotFound => Some(O::NotFound),
                Refusal::Conflict => Some(O::AlreadyHandedOut),
                Refusal::AlreadyExists | Refusal::Odd => Some(O::Odd(error.to_string())),
            };
        }
    };
    let reads = *input == QueueInput::List;
    if let (false, Outcome::Empty(_) | Outcome::Created(_)) = (reads, &outcome) {
        return Some(O::Done);
    }
    if let (true, Outcome::Queue(queue)) = (reads, &outcome)
        && queue.total_count as usize == queue.result.len()
    {
        return Some(O::Items(queue.result.iter().map(item).collect()));
    }
    Some(O::Odd(format!("{outcome:?}")))
}

/// An item by its name, which is what it carries; one under another's identifier is nobody's.
fn item(item: &QueueItem) -> Item {
    let name = STANDARD.decode(&item.data).ok().and_then(|data| String::from_utf8(data).ok());
    let name = name.filter(|name| item_id(name) == item.id);
    let name = name.unwrap_or_else(|| format!("torn: {} {}", item.id, item.data));
    Item { name, pending: item.is_pending }
}

#[cfg(test)]
mod tests {
    use node::api::wire::{ApplicationDetails, Created, DeviceDetails, Empty, QueueItems};

    use super::*;

    fn told(input: &RegisterInput, reply: CallReply) -> Option<RegisterOutput> {
        register_answer(input, reply)
    }

    #[test]
    fn errors_are_answers_only_where_they_say_what_became_of_the_call() {
        use RegisterOutput as O;
        let text = || "x".to_owned();
        let odd = |error: &ApiError| Some(O::Odd(error.to_string()));
        let invalid = ApiError::invalid("name", "x");
        let conflict = ApiError::Conflict(text());
        let cases = [
            (ApiError::UnknownOutcome, None),
            (ApiError::Unavailable(Unavailable::Stopping), None),
            (ApiError::Unavailable(Unavailable::NoQuorum), Some(O::NotDone)),
            (ApiError::Unavailable(Unavailable::DiskFull), Some(O::NotDone)),
            (ApiError::Unavailable(Unavailable::Starting), Some(O::NotDone)),
            (ApiError::ResourceExhausted(text()), Some(O::NotDone)),
            (ApiError::NotFound(text()), Some(O::NotFound)),
            (ApiError::AlreadyExists(text()), Some(O::AlreadyExists)),
            (conflict.clone(), odd(&conflict)),
            (invalid.clone(), odd(&invalid)),
        ];
        for (error, answer) in cases {
            assert_eq!(told(&RegisterInput::Delete, Err(error)), answer);
        }
        let cancel = QueueInput::Cancel(text());
        assert_eq!(queue_answer(&cancel, Err(conflict)), Some(QueueOutput::AlreadyHandedOut));
        let missing = ApiError::NotFound(text());
        assert_eq!(queue_answer(&cancel, Err(missing)), Some(QueueOutput::NotFound));
        let unknown = queue_answer(&cancel, Err(ApiError::UnknownOutcome));
        assert_eq!(unknown, None);
    }

    #[test]
    fn a_value_is_read_as_it_was_written_and_a_torn_one_is_nobodys() {
        let written = device(DevEui::default(), "a");
        let read = |device: Device| {
            let details = DeviceDetails { device, ..DeviceDetails::default() };
            told(&RegisterInput::Get, Ok(Outcome::Device(Box::new(details))))
        };
        assert_eq!(read(written.clone()), Some(RegisterOutput::Value("a".to_owned())));
        let torn = Device { description: "b".to_owned(), ..written };
        let Some(RegisterOutput::Value(value)) = read(torn) else { panic!() };
        assert!(value.starts_with("torn"), "{value}");
        let details = ApplicationDetails {
            application: application("shelf 1", "a"),
            ..ApplicationDetails::default()
        };
        let read = told(&RegisterInput::Get, Ok(Outcome::Application(details)));
        assert_eq!(read, Some(RegisterOutput::Value("a".to_owned())));
        let done = told(&RegisterInput::Delete, Ok(Outcome::Empty(Empty {})));
        assert_eq!(done, Some(RegisterOutput::Done));
        let other = told(&RegisterInput::Get, Ok(Outcome::Created(Created::default())));
        assert!(matches!(other, Some(RegisterOutput::Odd(_))), "{other:?}");
    }

    #[test]
    fn items_are_read_as_they_were_queued() {
        let input = QueueInput::Enqueue("a".to_owned());
        let Operation::Enqueue { item, .. } = queue_operation(DevEui::default(), &input) else {
            panic!()
        };
        let other = QueueItem { id: item_id("b"), is_pending: true, ..item.clone() };
        let result = vec![item, other];
        let listed = Outcome::Queue(QueueItems { total_count: 2, result });
        let read = queue_answer(&QueueInput::List, Ok(listed));
        let Some(QueueOutput::Items(items)) = read else { panic!("{read:?}") };
        assert_eq!(items[0], Item { name: "a".to_owned(), pending: false });
        assert!(items[1].name.starts_with("torn") && items[1].pending, "{items:?}");
        let short = Outcome::Queue(QueueItems { total_count: 2, result: Vec::new() });
        let read = queue_answer(&QueueInput::List, Ok(short));
        assert!(matches!(read, Some(QueueOutput::Odd(_))), "{read:?}");
    }
}
