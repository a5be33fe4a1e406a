//! Explains one frame field by field, as far as the given keys reach: MIC, payload, MAC commands.

use lorawan::{
    Aes, CfList, DataFrame, DecryptedJoinAccept, DevEui, Direction, EncryptedJoinAccept, Frame,
    JoinAccept, JoinContext, JoinReqType, JoinRequest, Key, MType, MicContext, ParseError,
    RejoinRequest, Signed, derive_js_enc_key, derive_js_int_key, uplink_mic_1_1,
};

use super::explain::{Row, mac_rows};
use super::keys::FrameKeys;

/// What a person may know besides the keys.
#[derive(Clone, Copy, Debug, Default)]
pub struct DecodeContext {
    /// The whole frame counter; without it the MIC finds its upper half.
    pub fcnt: Option<u32>,
    /// What a 1.1 MIC binds; without it data rate and channel are found by trying.
    pub mic: Option<MicContext>,
    /// The request that a 1.1 join-accept answers.
    pub join: Option<JoinContext>,
    /// Whose JSIntKey and JSEncKey, if only NwkKey is given.
    pub dev_eui: Option<DevEui>,
}

/// Upper halves of FCnt that are tried for a 1.1 uplink, whose data rate and channel are open too.
const UPPER_HALVES_1_1: u32 = 16;

/// Explains `bytes`.
///
/// * Returns rows in the order of the frame, then what the keys reveal.
/// * Errors: [`ParseError`], when it is no frame.
pub fn decode(
    bytes: &[u8],
    keys: &FrameKeys,
    context: &DecodeContext,
) -> Result<Vec<Row>, ParseError> {
    let frame = Frame::parse(bytes)?;
    let mut rows = vec![Row::new("MHDR", &bytes[..1], mtype_words(frame.mtype()))];
    match &frame {
        Frame::JoinRequest(request) => join_request(bytes, request, keys, &mut rows),
        Frame::JoinAccept(accept) => join_accept(bytes, accept, keys, context, &mut rows),
        Frame::Rejoin(request) => rejoin(bytes, request, keys, context, &mut rows),
        Frame::Data(data) => data_frame(bytes, data, keys, context, &mut rows),
        Frame::Proprietary(payload) => rows.push(Row::new("payload", payload, "not LoRaWAN's")),
    }
    Ok(rows)
}

const fn mtype_words(mtype: MType) -> &'static str {
    match mtype {
        MType::JoinRequest => "join-request",
        MType::JoinAccept => "join-accept",
        MType::UnconfirmedDataUp => "unconfirmed data up",
        MType::UnconfirmedDataDown => "unconfirmed data down",
        MType::ConfirmedDataUp => "confirmed data up",
        MType::ConfirmedDataDown => "confirmed data down",
        MType::RejoinRequest => "rejoin-request",
        MType::Proprietary => "proprietary",
    }
}

/// MIC in words; `None` means that the key is not there.
fn verdict(right: Option<bool>, key_name: &str) -> String {
    match right {
        Some(true) => format!("right, under {key_name}"),
        Some(false) => format!("WRONG under {key_name}"),
        None => format!("not checked, give {key_name}"),
    }
}

fn join_request(
    bytes: &[u8],
    request: &Signed<'_, JoinRequest>,
    keys: &FrameKeys,
    rows: &mut Vec<Row>,
) {
    let JoinRequest { join_eui, dev_eui, dev_nonce } = request.fields;
    rows.push(Row::new("JoinEUI", &bytes[1..9], join_eui.to_string()));
    rows.push(Row::new("DevEUI", &bytes[9..17], dev_eui.to_string()));
    rows.push(Row::new("DevNonce", &bytes[17..19], dev_nonce.0.to_string()));
    // A 1.0.x device has one root key, and people call it by either name.
    let roots = [("nwk_key", &keys.nwk_key), ("app_key", &keys.app_key)];
    let given = roots.iter().filter_map(|(name, key)| key.as_ref().map(|key| (*name, key)));
    let mut meaning = verdict(None, "nwk_key (for 1.0.x the AppKey)");
    for (name, key) in given {
        let right = request.verify(&Aes::new(key));
        meaning = verdict(Some(right), name);
        if right {
            break;
        }
    }
    rows.push(Row::new("MIC", &request.mic(), meaning));
}

fn rejoin(
    bytes: &[u8],
    request: &Signed<'_, RejoinRequest>,
    keys: &FrameKeys,
    context: &DecodeContext,
    rows: &mut Vec<Row>,
) {
    let dev_eui = request.fields.dev_eui();
    let kind = format!("type {}", request.fields.kind());
    rows.push(Row::new("RejoinType", &bytes[1..2], kind));
    let (at, counter, key_name, key) = match request.fields {
        RejoinRequest::Type0 { net_id, .. } | RejoinRequest::Type2 { net_id, .. } => {
            rows.push(Row::new("NetID", &bytes[2..5], net_id.to_string()));
            (5, "RJcount0", "s_nwk_s_int_key", keys.s_nwk_s_int_key.clone())
        }
        RejoinRequest::Type1 { join_eui, .. } => {
            rows.push(Row::new("JoinEUI", &bytes[2..10], join_eui.to_string()));
            let dev_eui = Some(context.dev_eui.unwrap_or(dev_eui));
            (10, "RJcount1", "js_int_key or nwk_key", js_int_key(keys, dev_eui))
        }
    };
    let key = key.as_ref();
    rows.push(Row::new("DevEUI", &bytes[at..at + 8], dev_eui.to_string()));
    let count = request.fields.rj_count().to_string();
    rows.push(Row::new(counter, &bytes[at + 8..at + 10], count));
    let right = key.map(|key| request.verify(&Aes::new(key)));
    rows.push(Row::new("MIC", &request.mic(), verdict(right, key_name)));
}

/// JSIntKey as given, or derived.
fn js_int_key(keys: &FrameKeys, dev_eui: Option<DevEui>) -> Option<Key> {
    let derived = || Some(derive_js_int_key(keys.nwk_key.as_ref()?, dev_eui?));
    keys.js_int_key.clone().or_else(derived)
}

fn join_accept(
    bytes: &[u8],
    accept: &EncryptedJoinAccept<'_>,
    keys: &FrameKeys,
    context: &DecodeContext,
    rows: &mut Vec<Row>,
) {
    rows.push(Row::new("enciphered", &bytes[1..], ""));
    let Some((plain, meaning)) = open_join_accept(accept, keys, context) else {
        let meaning = "enciphered; give nwk_key (for 1.0.x the AppKey)";
        rows.push(Row::new("", &[], meaning));
        return;
    };
    let clear = plain.plain();
    match plain.fields() {
        Ok(fields) => join_accept_rows(clear, &fields, rows),
        Err(error) => rows.push(Row::new("in the clear", clear, error.to_string())),
    }
    rows.push(Row::new("MIC", &plain.mic(), meaning));
}

/// The reading whose MIC is right; without such a one, the first that the keys allow.
fn open_join_accept(
    accept: &EncryptedJoinAccept<'_>,
    keys: &FrameKeys,
    context: &DecodeContext,
) -> Option<(DecryptedJoinAccept, String)> {
    let mut first = None;
    for (name, key) in [("nwk_key", &keys.nwk_key), ("app_key", &keys.app_key)] {
        let Some(key) = key.as_ref().map(Aes::new) else { continue };
        let plain = accept.decrypt(&key);
        if plain.verify_1_0(&key) {
            return Some((plain, format!("right, under {name} as in 1.0.x")));
        }
        first.get_or_insert((plain, name));
    }
    let js_int_key = js_int_key(keys, context.dev_eui);
    let (Some(js_int_key), Some(join)) = (js_int_key, context.join) else {
        let why = "WRONG as in 1.0.x; for 1.1 give JoinEUI, DevNonce and DevEUI or js_int_key";
        return first.map(|(plain, _)| (plain, why.into()));
    };
    let enc_key = match join.join_req_type {
        JoinReqType::Join => keys.nwk_key.clone(),
        JoinReqType::Rejoin0 | JoinReqType::Rejoin1 | JoinReqType::Rejoin2 => {
            let derived = || Some(derive_js_enc_key(keys.nwk_key.as_ref()?, context.dev_eui?));
            keys.js_enc_key.clone().or_else(derived)
        }
    };
    let plain = accept.decrypt(&Aes::new(&enc_key?));
    let right = plain.verify_1_1(&Aes::new(&js_int_key), &join);
    Some((plain, verdict(Some(right), "JSIntKey as in 1.1")))
}

fn join_accept_rows(clear: &[u8], fields: &JoinAccept, rows: &mut Vec<Row>) {
    rows.push(Row::new("JoinNonce", &clear[..3], fields.join_nonce.0.to_string()));
    rows.push(Row::new("NetID", &clear[3..6], fields.net_id.to_string()));
    rows.push(Row::new("DevAddr", &clear[6..10], fields.dev_addr.to_string()));
    let settings = format!(
        "OptNeg {}, RX1DROffset {}, RX2 DR{}",
        u8::from(fields.opt_neg),
        fields.rx1_dr_offset,
        fields.rx2_dr,
    );
    rows.push(Row::new("DLSettings", &clear[10..11], settings));
    rows.push(Row::new("RxDelay", &clear[11..12], format!("{} s", fields.rx_delay.max(1))));
    let meaning = match fields.cf_list {
        None => return,
        Some(CfList::Frequencies(frequencies)) => {
            let used = frequencies.iter().filter(|freq| **freq != 0);
            let used: Vec<String> =
                used.map(|freq| format!("{} MHz", f64::from(*freq) / 1e6)).collect();
            format!("more channels: {}", used.join(", "))
        }
        Some(CfList::ChannelMasks(masks)) => {
            let on = |number: usize| masks[number / 16] >> (number % 16) & 1 == 1;
            let channels = (0..16 * masks.len()).filter(|number| on(*number));
            let channels: Vec<String> = channels.map(|number| number.to_string()).collect();
            format!("channels on: {}", channels.join(" "))
        }
    };
    rows.push(Row::new("CFList", &clear[12..], meaning));
}

fn data_frame(
    bytes: &[u8],
    frame: &DataFrame<'_>,
    keys: &FrameKeys,
    context: &DecodeContext,
    rows: &mut Vec<Row>,
) {
    let (mic_meaning, found) = data_mic(frame, keys, context);
    let fcnt = found.or(context.fcnt).unwrap_or(u32::from(frame.fcnt));
    rows.push(Row::new("DevAddr", &bytes[1..5], frame.dev_addr.to_string()));
    rows.push(Row::new("FCtrl", &bytes[5..6], fctrl_words(frame)));
    let counter = match found {
        Some(fcnt) => format!("{fcnt}"),
        None => format!("{}, the low half", frame.fcnt),
    };
    rows.push(Row::new("FCnt", &bytes[6..8], counter));
    let ciphered = keys.nwk_s_enc_key.is_some() || keys.s_nwk_s_int_key.is_some();
    if !frame.f_opts.is_empty() {
        f_opts_rows(frame, keys, ciphered, fcnt, rows);
    }
    let Some(port) = frame.f_port else {
        rows.push(Row::new("MIC", &frame.mic(), mic_meaning));
        return;
    };
    let port_meaning = if port == 0 { "MAC commands".into() } else { port.to_string() };
    rows.push(Row::new("FPort", &[port], port_meaning));
    let (key, name) = match (port, ciphered) {
        (0, true) => (&keys.nwk_s_enc_key, "nwk_s_enc_key"),
        (0, false) => (&keys.nwk_s_key, "nwk_s_key"),
        _ => (&keys.app_s_key, "app_s_key"),
    };
    let length = format!("{} bytes, enciphered", frame.frm_payload.len());
    rows.push(Row::new("FRMPayload", frame.frm_payload, length));
    rows.push(Row::new("MIC", &frame.mic(), mic_meaning));
    let Some(key) = key else {
        rows.push(Row::new("payload", &[], format!("enciphered, give {name}")));
        return;
    };
    let payload = frame.decrypt_payload(&Aes::new(key), fcnt);
    rows.push(Row::new("payload", &payload, format!("in the clear, under {name}, FCnt {fcnt}")));
    if port == 0 {
        rows.extend(mac_rows(frame.direction, &payload));
    }
}

fn f_opts_rows(
    frame: &DataFrame<'_>,
    keys: &FrameKeys,
    ciphered: bool,
    fcnt: u32,
    rows: &mut Vec<Row>,
) {
    match (&keys.nwk_s_enc_key, ciphered) {
        (Some(key), true) => {
            let clear = frame.decrypt_f_opts(&Aes::new(key), fcnt);
            rows.push(Row::new("FOpts", frame.f_opts, "MAC commands, enciphered as in 1.1"));
            rows.extend(mac_rows(frame.direction, &clear));
        }
        (None, true) => {
            rows.push(Row::new("FOpts", frame.f_opts, "enciphered, give nwk_s_enc_key"));
        }
        (_, false) => {
            rows.push(Row::new("FOpts", frame.f_opts, "MAC commands, in the clear as in 1.0.x"));
            rows.extend(mac_rows(frame.direction, frame.f_opts));
        }
    }
}

fn fctrl_words(frame: &DataFrame<'_>) -> String {
    let flags = [
        ("ADR", frame.fctrl.adr),
        ("ADRACKReq", frame.fctrl.adr_ack_req),
        ("ACK", frame.fctrl.ack),
        ("ClassB", frame.fctrl.class_b),
        ("FPending", frame.fctrl.f_pending),
    ];
    let mut words: Vec<String> =
        flags.iter().filter(|(_, set)| *set).map(|(name, _)| (*name).to_owned()).collect();
    if !frame.f_opts.is_empty() {
        words.push(format!("{} bytes of FOpts", frame.f_opts.len()));
    }
    if words.is_empty() { "no flag".into() } else { words.join(", ") }
}

/// The verdict, and the whole counter if the MIC proves one.
fn data_mic(
    frame: &DataFrame<'_>,
    keys: &FrameKeys,
    context: &DecodeContext,
) -> (String, Option<u32>) {
    if let (Some(f_key), Some(s_key)) = (&keys.f_nwk_s_int_key, &keys.s_nwk_s_int_key) {
        return mic_1_1(frame, &Aes::new(f_key), &Aes::new(s_key), context);
    }
    let Some(key) = &keys.nwk_s_key else {
        let names = "nwk_s_key, or f_nwk_s_int_key and s_nwk_s_int_key";
        return (verdict(None, names), None);
    };
    let key = Aes::new(key);
    let found = counters(frame, context, 1 << 16).find(|fcnt| frame.verify_1_0(&key, *fcnt));
    (verdict(Some(found.is_some()), "nwk_s_key"), found)
}

/// Counters the frame may have: the one given, or as many upper halves as asked.
fn counters(
    frame: &DataFrame<'_>,
    context: &DecodeContext,
    halves: u32,
) -> impl Iterator<Item = u32> + use<> {
    let (wire, given) = (u32::from(frame.fcnt), context.fcnt);
    let tried = if given.is_some() { 0 } else { halves };
    given.into_iter().chain((0..tried).map(move |half| half << 16 | wire))
}

fn mic_1_1(
    frame: &DataFrame<'_>,
    f_key: &Aes,
    s_key: &Aes,
    context: &DecodeContext,
) -> (String, Option<u32>) {
    let name = "f_nwk_s_int_key and s_nwk_s_int_key";
    if frame.direction == Direction::Down || context.mic.is_some() {
        let mic = context.mic.unwrap_or_default();
        let found = counters(frame, context, 1 << 16)
            .find(|fcnt| frame.verify_1_1(f_key, s_key, *fcnt, mic));
        let mut meaning = verdict(Some(found.is_some()), name);
        if found.is_none() && frame.fctrl.ack && context.mic.is_none() {
            meaning.push_str("; it acknowledges a frame whose FCnt the MIC binds: give it");
        }
        return (meaning, found);
    }
    // Half of an uplink's MIC binds neither data rate nor channel: it tells the counter first.
    let forwarding = |fcnt: u32| {
        let mic = MicContext::default();
        let dev_addr = frame.dev_addr;
        uplink_mic_1_1(f_key, s_key, dev_addr, fcnt, mic, frame.message())[2..] == frame.mic()[2..]
    };
    let tried = (0..16_u8).flat_map(|dr| (0..96_u8).map(move |ch| (dr, ch)));
    for fcnt in counters(frame, context, UPPER_HALVES_1_1).filter(|fcnt| forwarding(*fcnt)) {
        let fits = |(tx_dr, tx_ch): &(u8, u8)| {
            let mic = MicContext { conf_fcnt: 0, tx_dr: *tx_dr, tx_ch: *tx_ch };
            frame.verify_1_1(f_key, s_key, fcnt, mic)
        };
        if let Some((dr, ch)) = tried.clone().find(fits) {
            return (format!("right, under {name}, sent at DR{dr} on channel {ch}"), Some(fcnt));
        }
    }
    let why = if frame.fctrl.ack { "; it acknowledges a frame whose FCnt is needed" } else { "" };
    (format!("{}{why}", verdict(Some(false), name)), None)
}
