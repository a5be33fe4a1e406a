//! What a request says: names in the path, the query, the body.

use std::collections::BTreeMap;

use node::api::wire::ListQuery;
use node::api::{ApiError, EventFilter, MemberFilter, WatchFilter};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::json::camel_name;

/// Longest query taken, in pairs.
const QUERY_PAIRS_MAX: usize = 64;

/// The parts of one request.
#[derive(Debug, Default)]
pub(super) struct Params {
    pub(super) path: BTreeMap<String, String>,
    pub(super) query: BTreeMap<String, String>,
    pub(super) body: Map<String, Value>,
}

impl Params {
    /// Takes the query apart; both spellings of a name are one.
    pub(super) fn set_query(&mut self, pairs: Vec<(String, String)>) -> Result<(), ApiError> {
        if pairs.len() > QUERY_PAIRS_MAX {
            return Err(ApiError::invalid("query", format!("at most {QUERY_PAIRS_MAX} values")));
        }
        self.query = pairs.into_iter().map(|(name, value)| (camel_name(&name), value)).collect();
        Ok(())
    }

    /// A name in the path.
    pub(super) fn path(&self, name: &str) -> String {
        self.path.get(name).cloned().unwrap_or_default()
    }

    /// A text in the query; empty if it is not there.
    pub(super) fn text(&self, name: &str) -> String {
        self.query.get(name).cloned().unwrap_or_default()
    }

    /// A whole number in the query.
    pub(super) fn number(&self, name: &str) -> Result<Option<u64>, ApiError> {
        match self.query.get(name).map(String::as_str) {
            None | Some("") => Ok(None),
            Some(text) => text
                .parse()
                .map(Some)
                .map_err(|_| ApiError::invalid(name, "a whole number is needed")),
        }
    }

    fn small(&self, name: &str, default: u32) -> Result<u32, ApiError> {
        let number = self.number(name)?;
        number.map_or(Ok(default), |number| {
            u32::try_from(number).map_err(|_| ApiError::invalid(name, "this number is too large"))
        })
    }

    /// Yes or no in the query.
    pub(super) fn flag(&self, name: &str) -> Result<bool, ApiError> {
        match self.query.get(name).map(String::as_str) {
            None | Some("" | "false" | "0") => Ok(false),
            Some("true" | "1") => Ok(true),
            Some(_) => Err(ApiError::invalid(name, "true or false is needed")),
        }
    }

    /// What part of a list is wanted. The limit's default is 0, the count alone, as clients expect.
    pub(super) fn list(&self) -> Result<ListQuery, ApiError> {
        Ok(ListQuery {
            limit: self.small("limit", 0)?,
            offset: self.small("offset", 0)?,
            search: self.text("search"),
            tenant_id: self.text("tenantId"),
            application_id: self.text("applicationId"),
            device_profile_id: self.text("deviceProfileId"),
            user_id: self.text("userId"),
            order_by: self.text("orderBy"),
            order_by_desc: self.flag("orderByDesc")?,
            is_admin: self.flag("isAdmin")?,
        })
    }

    /// Which events are wanted. Without `after` those from the oldest on.
    pub(super) fn events(&self) -> Result<EventFilter, ApiError> {
        let after = self.number("after")?;
        let wait = self.flag("wait")?;
        Ok(EventFilter {
            after: if wait { after } else { Some(after.unwrap_or(0)) },
            limit: self.small("limit", 0)?,
            application_id: self.text("applicationId"),
            dev_eui: self.text("devEui"),
            wait,
        })
    }

    /// Which lines are wanted. Without `after` those from the oldest on.
    pub(super) fn watch(&self) -> Result<WatchFilter, ApiError> {
        let after = self.number("after")?;
        let wait = self.flag("wait")?;
        Ok(WatchFilter {
            after: if wait { after } else { Some(after.unwrap_or(0)) },
            dev_eui: self.text("devEui"),
            gateway_id: self.text("gatewayId"),
            wait,
        })
    }

    /// Which events of members are wanted. Without `after` those from the oldest on.
    pub(super) fn members(&self) -> Result<MemberFilter, ApiError> {
        let after = self.number("after")?;
        let wait = self.flag("wait")?;
        Ok(MemberFilter { after: if wait { after } else { Some(after.unwrap_or(0)) }, wait })
    }

    /// A part of the body.
    ///
    /// * Errors: a value of the wrong kind.
    pub(super) fn part<T: DeserializeOwned + Default>(&self, name: &str) -> Result<T, ApiError> {
        match self.body.get(name) {
            None => Ok(T::default()),
            Some(value) => {
                T::deserialize(value).map_err(|error| ApiError::invalid(name, error.to_string()))
            }
        }
    }

    /// A part of the body that must be there, as clients of the field's API send it.
    pub(super) fn needed<T: DeserializeOwned + Default>(&self, name: &str) -> Result<T, ApiError> {
        if !self.body.contains_key(name) {
            let why = format!("this is missing: {{\"{name}\": {{..}}}} is the form of the body");
            return Err(ApiError::invalid(name, why));
        }
        self.part(name)
    }

    /// The whole body.
    pub(super) fn whole<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        T::deserialize(Value::Object(self.body.clone()))
            .map_err(|error| ApiError::invalid("body", error.to_string()))
    }
}
