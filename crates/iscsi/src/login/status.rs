//! Login status (RFC 7143 §11.13.5).

/// Status class and detail of a login response that does not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LoginStatus {
    /// 0x0101: the target is at another address for now. No target here redirects by itself.
    MovedTemporarily,
    /// 0x0200: any fault of the initiator without a code of its own.
    InitiatorError,
    /// 0x0201: wrong secret or user, or authentication missing.
    AuthenticationFailure,
    /// 0x0202: this initiator may not use this target.
    AuthorizationFailure,
    /// 0x0203: no such target.
    NotFound,
    /// 0x0204: the target is gone for good.
    TargetRemoved,
    /// 0x0205: protocol version not supported.
    UnsupportedVersion,
    /// 0x0206: no further connection in this session.
    TooManyConnections,
    /// 0x0207: a key that is needed was not given.
    MissingParameter,
    /// 0x0208: this session cannot span connections.
    CannotIncludeInSession,
    /// 0x0209: SessionType not supported.
    SessionTypeNotSupported,
    /// 0x020a: the session to join does not exist.
    SessionDoesNotExist,
    /// 0x020b: a PDU that is not allowed during login.
    InvalidRequest,
    /// 0x0300: any fault of the target.
    TargetError,
    /// 0x0301: the target cannot serve now; the initiator may try again.
    ServiceUnavailable,
    /// 0x0302: out of resources; the initiator may try again.
    OutOfResources,
}

impl LoginStatus {
    /// Class in the high byte, detail in the low byte.
    pub fn code(self) -> u16 {
        match self {
            Self::MovedTemporarily => 0x0101,
            Self::InitiatorError => 0x0200,
            Self::AuthenticationFailure => 0x0201,
            Self::AuthorizationFailure => 0x0202,
            Self::NotFound => 0x0203,
            Self::TargetRemoved => 0x0204,
            Self::UnsupportedVersion => 0x0205,
            Self::TooManyConnections => 0x0206,
            Self::MissingParameter => 0x0207,
            Self::CannotIncludeInSession => 0x0208,
            Self::SessionTypeNotSupported => 0x0209,
            Self::SessionDoesNotExist => 0x020a,
            Self::InvalidRequest => 0x020b,
            Self::TargetError => 0x0300,
            Self::ServiceUnavailable => 0x0301,
            Self::OutOfResources => 0x0302,
        }
    }
}
