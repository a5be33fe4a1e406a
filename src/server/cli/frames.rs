//! `tern frame`: explain a frame, check a file of frames. Needs no server.

use std::io::BufReader;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use lorawan::DevEui;
use serde_json::json;

use super::client::CliError;
use super::device::from_hex;
use super::print::Out;
use crate::frame::{DecodeContext, FrameKeys, check_file, decode, render};

#[derive(Debug, Subcommand)]
pub(super) enum FrameCommand {
    /// Explain a frame field by field.
    #[command(after_help = "\
  tern frame decode 40f17dbe4900020001954378762b11ff0d
  tern frame decode 40f17d.. --keys nwk_s_key=44024241..,app_s_key=ec925802..
  tern frame decode 00dc0000d07ed5b3701e6fedf57ceeaf0085cc587fe913 --keys app_key=2b7e1516..")]
    Decode {
        /// The PHYPayload in hexadecimal or base64.
        payload: String,
        /// NAME=KEY, joined by commas: nwk_s_key, app_s_key, app_key, nwk_key, ..
        #[arg(long)]
        keys: Vec<String>,
        /// The whole frame counter, if its upper half is known.
        #[arg(long)]
        fcnt: Option<u32>,
        /// DevEUI, to open a join-accept of LoRaWAN 1.1.
        #[arg(long)]
        dev_eui: Option<String>,
    },
    /// Check a file of frames whose meaning others have worked out, one JSON object a line.
    Check { file: PathBuf },
}

pub(super) fn run(command: FrameCommand, out: &Out) -> Result<ExitCode, CliError> {
    match command {
        FrameCommand::Decode { payload, keys, fcnt, dev_eui } => {
            let dev_eui = dev_eui.map(|text| text.parse::<DevEui>());
            let dev_eui =
                dev_eui.transpose().map_err(|error| CliError::Usage(error.to_string()))?;
            let context = DecodeContext { fcnt, dev_eui, ..DecodeContext::default() };
            explain(&payload, &keys, &context, out)
        }
        FrameCommand::Check { file } => {
            let error = |why: String| CliError::File { path: file.clone(), why };
            let opened = std::fs::File::open(&file).map_err(|why| error(why.to_string()))?;
            let report =
                check_file(BufReader::new(opened)).map_err(|why| error(why.to_string()))?;
            for difference in &report.differences {
                out.line(&difference.to_string())?;
            }
            let answer = json!({"passed": report.passed, "failed": report.failed});
            out.done(&report.to_string(), &answer)?;
            Ok(if report.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
    }
}

fn explain(
    payload: &str,
    keys: &[String],
    context: &DecodeContext,
    out: &Out,
) -> Result<ExitCode, CliError> {
    use base64::Engine as _;
    let base64 = || base64::engine::general_purpose::STANDARD.decode(payload.trim()).ok();
    let bytes = match from_hex(payload) {
        Ok(bytes) => bytes,
        Err(error) => base64().ok_or(error)?,
    };
    let keys = FrameKeys::parse(keys.iter().map(String::as_str));
    let keys = keys.map_err(|error| CliError::Usage(error.to_string()))?;
    let rows = decode(&bytes, &keys, context);
    let rows = rows.map_err(|error| CliError::Usage(format!("this is no frame: {error}")))?;
    if out.json {
        let rows: Vec<_> = rows
            .iter()
            .map(|row| json!({"field": row.field, "hex": row.hex, "meaning": row.meaning}))
            .collect();
        out.line(&json!(rows).to_string())?;
    } else {
        out.line(render(&rows).trim_end())?;
    }
    Ok(ExitCode::SUCCESS)
}
