//! TFTP packets (RFC 1350 §5, RFC 2347).

/// Longest request in bytes that is read (RFC 2347: "the maximum size of a request packet is 512
/// octets").
const REQUEST_BYTES_MAX: usize = 512;
/// Most options of one request that are read; the rest is ignored, as unknown ones are.
const OPTIONS_MAX: usize = 16;

/// Transfer mode of a request (RFC 1350 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Bytes as they are.
    Octet,
    /// Text with CR LF line ends.
    Netascii,
}

/// Error codes (RFC 1350 §5, RFC 2347).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    /// 0: see the message.
    NotDefined,
    /// 1: file not found.
    FileNotFound,
    /// 2: access violation.
    AccessViolation,
    /// 3: disk full or allocation exceeded.
    DiskFull,
    /// 4: illegal TFTP operation.
    IllegalOperation,
    /// 5: unknown transfer id.
    UnknownTransfer,
    /// 6: file already exists.
    FileExists,
    /// 7: no such user.
    NoSuchUser,
    /// 8: the options offered are not acceptable (RFC 2347).
    OptionRefused,
    /// Any other code.
    Unknown(u16),
}

/// Option names and values in the order in which they were sent (RFC 2347). Names are compared
/// without regard to case.
pub type Options<'a> = Vec<(&'a str, &'a str)>;

/// A read or write request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// Name of the file.
    pub file: &'a str,
    /// Mode.
    pub mode: Mode,
    /// Options, known and unknown.
    pub options: Options<'a>,
}

/// One datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// 1: the client wants to read.
    ReadRequest(Request<'a>),
    /// 2: the client wants to write.
    WriteRequest(Request<'a>),
    /// 3: one block.
    Data {
        /// Block number, modulo 65536.
        block: u16,
        /// The bytes; shorter than the block size in the last block.
        data: &'a [u8],
    },
    /// 4: a block arrived.
    Ack {
        /// Block number, modulo 65536.
        block: u16,
    },
    /// 5: the transfer ends.
    Error {
        /// Why.
        code: ErrorCode,
        /// For people. Bytes that are not UTF-8 are not kept.
        message: &'a str,
    },
    /// 6: options that the server accepts (RFC 2347).
    OptionAck {
        /// Names and values.
        options: Options<'a>,
    },
}

/// A datagram that is no TFTP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Ends within a field.
    #[error("packet of {0} bytes ends within a field")]
    Truncated(usize),
    /// Longer than a packet of its kind may be.
    #[error("packet of {0} bytes is too long")]
    TooLong(usize),
    /// Not an operation of TFTP.
    #[error("operation {0} does not exist")]
    UnknownOperation(u16),
    /// A string is not text.
    #[error("a string is not UTF-8")]
    NotText,
    /// The file name is empty.
    #[error("the file name is empty")]
    NoFileName,
    /// Neither `octet` nor `netascii`.
    #[error("the mode is neither octet nor netascii")]
    UnknownMode,
}

impl<'a> Packet<'a> {
    /// Reads one datagram. The result borrows from it.
    ///
    /// # Errors
    /// If it is no TFTP packet.
    pub fn decode(datagram: &'a [u8]) -> Result<Self, DecodeError> {
        let truncated = DecodeError::Truncated(datagram.len());
        let (operation, rest) = split_u16(datagram).ok_or(truncated)?;
        match operation {
            1 => Ok(Self::ReadRequest(Request::decode(rest)?)),
            2 => Ok(Self::WriteRequest(Request::decode(rest)?)),
            3 => {
                let (block, data) = split_u16(rest).ok_or(truncated)?;
                Ok(Self::Data { block, data })
            }
            // Seen: clients that pad the ACK to the minimum frame; the rest is ignored.
            4 => {
                let (block, _) = split_u16(rest).ok_or(truncated)?;
                Ok(Self::Ack { block })
            }
            5 => {
                let (code, text) = split_u16(rest).ok_or(truncated)?;
                Ok(Self::Error {
                    code: code.into(),
                    message: lenient_text(text),
                })
            }
            6 => Ok(Self::OptionAck {
                options: decode_options(rest)?,
            }),
            other => Err(DecodeError::UnknownOperation(other)),
        }
    }

    /// The datagram's size in bytes.
    pub fn encoded_len(&self) -> usize {
        2 + match self {
            Self::ReadRequest(request) | Self::WriteRequest(request) => request.encoded_len(),
            Self::Data { data, .. } => 2 + data.len(),
            Self::Ack { .. } => 2,
            Self::Error { message, .. } => 2 + message.len() + 1,
            Self::OptionAck { options } => options_len(options),
        }
    }

    /// Appends the datagram to `buffer`.
    pub fn encode(&self, buffer: &mut Vec<u8>) {
        buffer.reserve(self.encoded_len());
        match self {
            Self::ReadRequest(request) => {
                put_u16(buffer, 1);
                request.encode(buffer);
            }
            Self::WriteRequest(request) => {
                put_u16(buffer, 2);
                request.encode(buffer);
            }
            Self::Data { block, data } => {
                put_u16(buffer, 3);
                put_u16(buffer, *block);
                buffer.extend_from_slice(data);
            }
            Self::Ack { block } => {
                put_u16(buffer, 4);
                put_u16(buffer, *block);
            }
            Self::Error { code, message } => {
                put_u16(buffer, 5);
                put_u16(buffer, (*code).into());
                put_text(buffer, message);
            }
            Self::OptionAck { options } => {
                put_u16(buffer, 6);
                encode_options(buffer, options);
            }
        }
    }

    /// The datagram.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut buffer = Vec::new();
        self.encode(&mut buffer);
        buffer
    }
}

impl<'a> Request<'a> {
    fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        if bytes.len() + 2 > REQUEST_BYTES_MAX {
            return Err(DecodeError::TooLong(bytes.len() + 2));
        }
        let (file, rest) = split_text(bytes)?;
        if file.is_empty() {
            return Err(DecodeError::NoFileName);
        }
        let (mode, rest) = split_text(rest)?;
        let mode = if mode.eq_ignore_ascii_case("octet") {
            Mode::Octet
        } else if mode.eq_ignore_ascii_case("netascii") {
            Mode::Netascii
        } else {
            return Err(DecodeError::UnknownMode);
        };
        Ok(Self {
            file,
            mode,
            options: decode_options(rest)?,
        })
    }

    fn encode(&self, buffer: &mut Vec<u8>) {
        put_text(buffer, self.file);
        put_text(buffer, self.mode.name());
        encode_options(buffer, &self.options);
    }

    fn encoded_len(&self) -> usize {
        self.file.len() + 1 + self.mode.name().len() + 1 + options_len(&self.options)
    }
}

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Self::Octet => "octet",
            Self::Netascii => "netascii",
        }
    }
}

impl From<u16> for ErrorCode {
    fn from(code: u16) -> Self {
        match code {
            0 => Self::NotDefined,
            1 => Self::FileNotFound,
            2 => Self::AccessViolation,
            3 => Self::DiskFull,
            4 => Self::IllegalOperation,
            5 => Self::UnknownTransfer,
            6 => Self::FileExists,
            7 => Self::NoSuchUser,
            8 => Self::OptionRefused,
            other => Self::Unknown(other),
        }
    }
}

impl From<ErrorCode> for u16 {
    fn from(code: ErrorCode) -> Self {
        match code {
            ErrorCode::NotDefined => 0,
            ErrorCode::FileNotFound => 1,
            ErrorCode::AccessViolation => 2,
            ErrorCode::DiskFull => 3,
            ErrorCode::IllegalOperation => 4,
            ErrorCode::UnknownTransfer => 5,
            ErrorCode::FileExists => 6,
            ErrorCode::NoSuchUser => 7,
            ErrorCode::OptionRefused => 8,
            ErrorCode::Unknown(code) => code,
        }
    }
}

/// Options up to the end. Seen: boot ROMs that pad the request with zeros, so an empty name ends
/// the list; and a value without its final zero, which is taken as complete.
fn decode_options(mut rest: &[u8]) -> Result<Options<'_>, DecodeError> {
    let mut options = Options::new();
    while !rest.is_empty() && options.len() < OPTIONS_MAX {
        let (name, after) = split_text(rest)?;
        if name.is_empty() {
            break;
        }
        let (value, after) = match after.contains(&0) {
            true => split_text(after)?,
            false => (text(after)?, &[][..]),
        };
        options.push((name, value));
        rest = after;
    }
    Ok(options)
}

fn encode_options(buffer: &mut Vec<u8>, options: &Options<'_>) {
    for (name, value) in options {
        put_text(buffer, name);
        put_text(buffer, value);
    }
}

fn options_len(options: &Options<'_>) -> usize {
    options
        .iter()
        .map(|(name, value)| name.len() + value.len() + 2)
        .sum()
}

fn split_u16(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let (first, rest) = bytes.split_first_chunk::<2>()?;
    Some((u16::from_be_bytes(*first), rest))
}

fn split_text(bytes: &[u8]) -> Result<(&str, &[u8]), DecodeError> {
    let end = bytes
        .iter()
        .position(|&byte| byte == 0)
        .ok_or(DecodeError::Truncated(bytes.len()))?;
    Ok((text(&bytes[..end])?, &bytes[end + 1..]))
}

fn text(bytes: &[u8]) -> Result<&str, DecodeError> {
    std::str::from_utf8(bytes).map_err(|_| DecodeError::NotText)
}

/// The text of an ERROR, which must end the transfer whatever the state of its message.
fn lenient_text(bytes: &[u8]) -> &str {
    let end = bytes.iter().position(|&byte| byte == 0);
    text(&bytes[..end.unwrap_or(bytes.len())]).unwrap_or("")
}

fn put_u16(buffer: &mut Vec<u8>, value: u16) {
    buffer.extend_from_slice(&value.to_be_bytes());
}

fn put_text(buffer: &mut Vec<u8>, text: &str) {
    buffer.extend_from_slice(text.as_bytes());
    buffer.push(0);
}

#[cfg(test)]
mod tests;
