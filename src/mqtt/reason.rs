//! Reason codes: why a request was granted or refused, as one byte on the wire.
//!
//! One enum for all packets; which packet may carry which code is checked when it is encoded or
//! decoded. MQTT 3.1.1 knows six return codes for CONNACK and one failure for SUBACK: the mapping
//! stands here. Source: MQTT 5.0 §2.4, MQTT 3.1.1 §3.2.2.3 and §3.9.3.

macro_rules! reason_codes {
    ($($(#[doc = $doc:literal])* $name:ident = $code:literal, $metric:literal;)*) => {
        /// A reason code of MQTT 5.0. `0x00` to `0x7F` are success, `0x80` and above are errors.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum ReasonCode {
            $($(#[doc = $doc])* $name = $code,)*
        }

        impl ReasonCode {
            /// Every code, in ascending order.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The code of a byte; `None` for a byte the specification reserves.
            pub const fn from_u8(code: u8) -> Option<Self> {
                match code {
                    $($code => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// Name for metrics and logs.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $metric,)*
                }
            }
        }
    };
}

reason_codes! {
    /// Success; normal disconnection; granted QoS 0.
    Success = 0x00, "success";
    /// Granted QoS 1.
    GrantedQos1 = 0x01, "granted_qos_1";
    /// Granted QoS 2.
    GrantedQos2 = 0x02, "granted_qos_2";
    /// The client leaves but wants its will published.
    DisconnectWithWill = 0x04, "disconnect_with_will";
    /// Accepted, but nobody has subscribed.
    NoMatchingSubscribers = 0x10, "no_matching_subscribers";
    /// UNSUBSCRIBE of a filter that was not subscribed.
    NoSubscriptionExisted = 0x11, "no_subscription_existed";
    /// Enhanced authentication goes on.
    ContinueAuthentication = 0x18, "continue_authentication";
    /// The client starts a re-authentication.
    ReAuthenticate = 0x19, "re_authenticate";
    /// No reason given.
    UnspecifiedError = 0x80, "unspecified_error";
    /// Bytes that cannot be a packet.
    MalformedPacket = 0x81, "malformed_packet";
    /// A well-formed packet where it must not be.
    ProtocolError = 0x82, "protocol_error";
    /// Refused by this implementation.
    ImplementationSpecificError = 0x83, "implementation_specific_error";
    /// A protocol name or level that is not served.
    UnsupportedProtocolVersion = 0x84, "unsupported_protocol_version";
    /// A client id that is not allowed.
    ClientIdentifierNotValid = 0x85, "client_identifier_not_valid";
    /// Wrong name or password.
    BadUserNameOrPassword = 0x86, "bad_user_name_or_password";
    /// Known, but not allowed.
    NotAuthorized = 0x87, "not_authorized";
    /// Cannot serve now.
    ServerUnavailable = 0x88, "server_unavailable";
    /// Too busy now.
    ServerBusy = 0x89, "server_busy";
    /// Barred by an operator.
    Banned = 0x8A, "banned";
    /// The server is shutting down.
    ServerShuttingDown = 0x8B, "server_shutting_down";
    /// An authentication method that is not offered.
    BadAuthenticationMethod = 0x8C, "bad_authentication_method";
    /// Nothing heard within one and a half keep-alives.
    KeepAliveTimeout = 0x8D, "keep_alive_timeout";
    /// Another connection uses the same client id.
    SessionTakenOver = 0x8E, "session_taken_over";
    /// A topic filter that is not allowed.
    TopicFilterInvalid = 0x8F, "topic_filter_invalid";
    /// A topic name that is not allowed.
    TopicNameInvalid = 0x90, "topic_name_invalid";
    /// The packet id is already in use.
    PacketIdentifierInUse = 0x91, "packet_identifier_in_use";
    /// The packet id is not known.
    PacketIdentifierNotFound = 0x92, "packet_identifier_not_found";
    /// More unacknowledged publishes than agreed.
    ReceiveMaximumExceeded = 0x93, "receive_maximum_exceeded";
    /// A topic alias that was not agreed.
    TopicAliasInvalid = 0x94, "topic_alias_invalid";
    /// A packet above the agreed maximum.
    PacketTooLarge = 0x95, "packet_too_large";
    /// Too many messages in a time.
    MessageRateTooHigh = 0x96, "message_rate_too_high";
    /// A quota is used up.
    QuotaExceeded = 0x97, "quota_exceeded";
    /// Closed by an operator.
    AdministrativeAction = 0x98, "administrative_action";
    /// The payload is not of the told format.
    PayloadFormatInvalid = 0x99, "payload_format_invalid";
    /// Retained messages are not served.
    RetainNotSupported = 0x9A, "retain_not_supported";
    /// A QoS above the offered maximum.
    QosNotSupported = 0x9B, "qos_not_supported";
    /// Try another server for now.
    UseAnotherServer = 0x9C, "use_another_server";
    /// Go to another server for good.
    ServerMoved = 0x9D, "server_moved";
    /// Shared subscriptions are not served.
    SharedSubscriptionsNotSupported = 0x9E, "shared_subscriptions_not_supported";
    /// Too many connections in a time.
    ConnectionRateExceeded = 0x9F, "connection_rate_exceeded";
    /// Connected for as long as is allowed.
    MaximumConnectTime = 0xA0, "maximum_connect_time";
    /// Subscription identifiers are not served.
    SubscriptionIdentifiersNotSupported = 0xA1, "subscription_identifiers_not_supported";
    /// Wildcards are not served.
    WildcardSubscriptionsNotSupported = 0xA2, "wildcard_subscriptions_not_supported";
}

impl ReasonCode {
    /// The byte on the wire.
    pub const fn as_u8(self) -> u8 {
        self as u8
    }

    /// Whether the code tells of a failure.
    pub const fn is_error(self) -> bool {
        self.as_u8() >= 0x80
    }

    /// The return code of a 3.1.1 CONNACK, `0..=5`; what 3.1.1 has no word for is "unavailable".
    pub const fn to_v311_connack(self) -> u8 {
        match self.as_u8() {
            0x00 => 0,
            0x84 => 1,
            0x85 => 2,
            0x86 => 4,
            // Not authorized, banned, bad authentication method.
            0x87 | 0x8A | 0x8C => 5,
            _ => 3,
        }
    }

    /// The meaning of a 3.1.1 CONNACK return code; `None` above 5.
    pub const fn from_v311_connack(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Success),
            1 => Some(Self::UnsupportedProtocolVersion),
            2 => Some(Self::ClientIdentifierNotValid),
            3 => Some(Self::ServerUnavailable),
            4 => Some(Self::BadUserNameOrPassword),
            5 => Some(Self::NotAuthorized),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ReasonCode;

    #[test]
    fn every_code_reads_back_and_no_other_byte_does() {
        let known = (0..=u8::MAX).filter_map(ReasonCode::from_u8).collect::<Vec<_>>();
        assert_eq!(known, ReasonCode::ALL);
        for code in ReasonCode::ALL {
            assert_eq!(ReasonCode::from_u8(code.as_u8()), Some(*code));
        }
    }

    #[test]
    fn connack_return_codes_read_back() {
        for code in 0..=5 {
            let reason = ReasonCode::from_v311_connack(code).unwrap();
            assert_eq!(reason.to_v311_connack(), code);
        }
        assert_eq!(ReasonCode::from_v311_connack(6), None);
        assert_eq!(ReasonCode::QuotaExceeded.to_v311_connack(), 3);
    }
}
