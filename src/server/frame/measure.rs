//! What our codec makes of a frame, in the form the vector files use: the other side of a check.

use lorawan::{
    Aes, CfList, DataFrame, DevEui, DevNonce, Direction, DownlinkMacCommand, EncryptedJoinAccept,
    Frame, JoinContext, JoinEui, JoinReqType, Key, MacCommand, MicContext, RejoinRequest,
    SessionCiphers, SessionKeys, UplinkMacCommand, derive_js_enc_key, derive_js_int_key,
    derive_session_1_0, derive_session_1_1,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::mac_json;

/// Root and session keys by the names of the vector files.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct VectorKeys {
    nwk_key: Option<String>,
    app_key: Option<String>,
    nwk_s_key: Option<String>,
    app_s_key: Option<String>,
    f_nwk_s_int_key: Option<String>,
    s_nwk_s_int_key: Option<String>,
    nwk_s_enc_key: Option<String>,
    js_int_key: Option<String>,
}

/// What the frame alone does not say.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct VectorContext {
    f_cnt: u32,
    conf_f_cnt: u32,
    tx_dr: u8,
    tx_ch: u8,
    join_req_type: u8,
    join_eui: String,
    dev_eui: String,
    dev_nonce: u16,
}

/// Why a line cannot be measured: the line's fault, not the codec's.
pub(super) type LineFault = String;

fn key(name: &str, text: Option<&String>) -> Result<Key, LineFault> {
    let text = text.ok_or_else(|| format!("the key `{name}` is missing"))?;
    text.parse().map_err(|error| format!("the key `{name}`: {error}"))
}

/// Every field of `expect` as our codec sees it, for the frame of a line of `kind`.
pub(super) fn frame(
    kind: &str,
    bytes: &[u8],
    keys: &VectorKeys,
    context: &VectorContext,
) -> Result<Value, LineFault> {
    let new = kind.ends_with("_1_1");
    match Frame::parse(bytes) {
        Err(error) => Ok(json!({"parse_error": true, "reason": error.to_string()})),
        // Such a line carries neither keys nor context: there is nothing more to say.
        Ok(_) if kind.starts_with("malformed") => Ok(json!({"parse_error": false})),
        Ok(Frame::JoinRequest(request)) => Ok(json!({
            "join_eui": request.fields.join_eui.to_string(),
            "dev_eui": request.fields.dev_eui.to_string(),
            "dev_nonce": request.fields.dev_nonce.0,
            "mic": hex(&request.mic()),
            "mic_ok": request.verify(&Aes::new(&key("nwk_key", keys.nwk_key.as_ref())?)),
        })),
        Ok(Frame::JoinAccept(accept)) => join_accept(new, &accept, keys, context),
        Ok(Frame::Rejoin(request)) => {
            let (name, key_text) = match request.fields {
                RejoinRequest::Type0 { .. } | RejoinRequest::Type2 { .. } => {
                    ("s_nwk_s_int_key", &keys.s_nwk_s_int_key)
                }
                RejoinRequest::Type1 { .. } => ("js_int_key", &keys.js_int_key),
            };
            let mic_ok = request.verify(&Aes::new(&key(name, key_text.as_ref())?));
            let (net_id, join_eui) = match request.fields {
                RejoinRequest::Type0 { net_id, .. } | RejoinRequest::Type2 { net_id, .. } => {
                    (Some(net_id.to_string()), None)
                }
                RejoinRequest::Type1 { join_eui, .. } => (None, Some(join_eui.to_string())),
            };
            Ok(json!({
                "rejoin_type": request.fields.kind(),
                "net_id": net_id,
                "join_eui": join_eui,
                "dev_eui": request.fields.dev_eui().to_string(),
                "rj_count": request.fields.rj_count(),
                "mic": hex(&request.mic()),
                "mic_ok": mic_ok,
            }))
        }
        Ok(Frame::Data(data)) => data_frame(&data, &session_keys(new, keys)?, context),
        Ok(Frame::Proprietary(payload)) => Ok(json!({"payload": hex(payload)})),
    }
}

fn session_keys(new: bool, keys: &VectorKeys) -> Result<SessionKeys, LineFault> {
    let app_s_key = key("app_s_key", keys.app_s_key.as_ref())?;
    Ok(if new {
        SessionKeys::V1_1 {
            f_nwk_s_int_key: key("f_nwk_s_int_key", keys.f_nwk_s_int_key.as_ref())?,
            s_nwk_s_int_key: key("s_nwk_s_int_key", keys.s_nwk_s_int_key.as_ref())?,
            nwk_s_enc_key: key("nwk_s_enc_key", keys.nwk_s_enc_key.as_ref())?,
            app_s_key,
        }
    } else {
        SessionKeys::V1_0 { nwk_s_key: key("nwk_s_key", keys.nwk_s_key.as_ref())?, app_s_key }
    })
}

fn join_accept(
    new: bool,
    sealed: &EncryptedJoinAccept<'_>,
    keys: &VectorKeys,
    context: &VectorContext,
) -> Result<Value, LineFault> {
    let text = |error: lorawan::ParseIdError| error.to_string();
    let nwk_key = key("nwk_key", keys.nwk_key.as_ref())?;
    let app_key = key("app_key", keys.app_key.as_ref())?;
    let join_eui: JoinEui = context.join_eui.parse().map_err(text)?;
    let dev_eui: DevEui = context.dev_eui.parse().map_err(text)?;
    let dev_nonce = DevNonce(context.dev_nonce);
    let join_req_type = JoinReqType::from_byte(context.join_req_type)
        .ok_or_else(|| format!("JoinReqType {} is not known", context.join_req_type))?;
    let (js_int_key, js_enc_key) =
        (derive_js_int_key(&nwk_key, dev_eui), derive_js_enc_key(&nwk_key, dev_eui));
    let cipher = if join_req_type == JoinReqType::Join { &nwk_key } else { &js_enc_key };
    let plain = sealed.decrypt(&Aes::new(cipher));
    let mic_ok = if new {
        let context = JoinContext { join_req_type, join_eui, dev_nonce };
        plain.verify_1_1(&Aes::new(&js_int_key), &context)
    } else {
        plain.verify_1_0(&Aes::new(&nwk_key))
    };
    let fields = match plain.fields() {
        Ok(fields) => fields,
        Err(error) => return Ok(json!({"mic_ok": mic_ok, "reason": error.to_string()})),
    };
    let session = if new {
        derive_session_1_1(&nwk_key, &app_key, fields.join_nonce, join_eui, dev_nonce)
    } else {
        derive_session_1_0(&nwk_key, fields.join_nonce, fields.net_id, dev_nonce)
    };
    Ok(json!({
        "plain": hex(plain.plain()),
        "mic": hex(&plain.mic()),
        "mic_ok": mic_ok,
        "join_nonce": fields.join_nonce.0,
        "net_id": fields.net_id.to_string(),
        "dev_addr": fields.dev_addr.to_string(),
        "opt_neg": fields.opt_neg,
        "rx1_dr_offset": fields.rx1_dr_offset,
        "rx2_dr": fields.rx2_dr,
        "rx_delay": fields.rx_delay,
        "cflist": cf_list(fields.cf_list),
        "session_keys": session_json(&session, &js_int_key, &js_enc_key),
    }))
}

/// A vector file is about published test keys: here, and nowhere else, they are shown.
fn session_json(session: &SessionKeys, js_int_key: &Key, js_enc_key: &Key) -> Value {
    let text = |key: &Key| hex(key.expose());
    match session {
        SessionKeys::V1_0 { nwk_s_key, app_s_key } => {
            json!({"nwk_s_key": text(nwk_s_key), "app_s_key": text(app_s_key)})
        }
        SessionKeys::V1_1 { f_nwk_s_int_key, s_nwk_s_int_key, nwk_s_enc_key, app_s_key } => {
            json!({
                "app_s_key": text(app_s_key),
                "f_nwk_s_int_key": text(f_nwk_s_int_key),
                "s_nwk_s_int_key": text(s_nwk_s_int_key),
                "nwk_s_enc_key": text(nwk_s_enc_key),
                "js_int_key": text(js_int_key),
                "js_enc_key": text(js_enc_key),
            })
        }
    }
}

/// Masks as they travel, without those at the end that switch nothing on.
fn cf_list(list: Option<CfList>) -> Value {
    match list {
        None => Value::Null,
        Some(CfList::Frequencies(frequencies)) => json!({"type": 0, "freqs": frequencies}),
        Some(CfList::ChannelMasks(masks)) => {
            let used = masks.iter().rposition(|mask| *mask != 0).map_or(0, |last| last + 1);
            let masks: Vec<String> =
                masks[..used].iter().map(|mask| hex(&mask.to_le_bytes())).collect();
            json!({"type": 1, "masks": masks})
        }
    }
}

fn data_frame(
    frame: &DataFrame<'_>,
    keys: &SessionKeys,
    context: &VectorContext,
) -> Result<Value, LineFault> {
    let ciphers = SessionCiphers::new(keys);
    let conf_fcnt = u16::try_from(context.conf_f_cnt & 0xFFFF).unwrap_or(0);
    let mic = MicContext { conf_fcnt, tx_dr: context.tx_dr, tx_ch: context.tx_ch };
    let opened = ciphers.open(frame, context.f_cnt);
    let fctrl = frame.fctrl;
    let payload_macs =
        (frame.f_port == Some(0)).then(|| commands(frame.direction, &opened.payload));
    Ok(json!({
        "confirmed": frame.confirmed,
        "dev_addr": frame.dev_addr.to_string(),
        "fctrl": {
            "adr": fctrl.adr,
            "adr_ack_req": fctrl.adr_ack_req,
            "ack": fctrl.ack,
            "bit4": fctrl.class_b || fctrl.f_pending,
        },
        "f_cnt16": frame.fcnt,
        "f_opts": hex(&opened.f_opts),
        "f_opts_macs": commands(frame.direction, &opened.f_opts),
        "f_port": frame.f_port,
        "payload": frame.f_port.map(|_| hex(&opened.payload)),
        "payload_macs": payload_macs,
        "mic": hex(&frame.mic()),
        "mic_ok": ciphers.verify(frame, context.f_cnt, mic),
    }))
}

/// A block of MAC commands: identifier, payload, fields; at its end what stopped the walk, if
/// something did.
pub(super) fn commands(direction: Direction, block: &[u8]) -> Value {
    match direction {
        Direction::Up => walk::<UplinkMacCommand>(block, mac_json::uplink),
        Direction::Down => walk::<DownlinkMacCommand>(block, mac_json::downlink),
    }
}

fn walk<C: MacCommand>(block: &[u8], fields: impl Fn(&C) -> Value) -> Value {
    let mut walked = Vec::new();
    let mut commands = C::walk(block);
    let mut from = 0;
    while let Some(item) = commands.next() {
        let to = block.len() - commands.left();
        match item {
            Ok(command) => walked.push(json!({
                "cid": command.cid(),
                "payload": hex(&block[from + 1..to]),
                "lrwn": fields(&command),
            })),
            Err(error) => walked.push(json!({"error": error.to_string()})),
        }
        from = to;
    }
    Value::Array(walked)
}

/// Lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes from hexadecimal digits; spaces, dashes and colons may stand between them.
///
/// * `max`: no more bytes than this.
pub(super) fn unhex(text: &str, max: usize) -> Result<Vec<u8>, LineFault> {
    let mut bytes = Vec::new();
    let mut high = None;
    for character in text.chars().filter(|c| !matches!(c, ' ' | '-' | ':')) {
        let digit = character.to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let digit = digit.ok_or_else(|| format!("`{character}` is not a hexadecimal digit"))?;
        match high.take() {
            None => high = Some(digit),
            Some(_) if bytes.len() == max => return Err(format!("more than {max} bytes")),
            Some(high) => bytes.push(high << 4 | digit),
        }
    }
    if high.is_some() { Err("an odd number of hexadecimal digits".into()) } else { Ok(bytes) }
}
