//! A crowd of network cards on one machine, behind a relay agent that it plays itself.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, UdpSocket};
use std::process::Stdio;
use std::time::Duration;

use dess_dhcp::{MESSAGE_BYTES_MAX, Message, MessageType, Operation, Options, SERVER_PORT, option};
use dess_model::MacAddr;

use super::{Room, SERVER};

/// Tells a copy of the test program that it is the crowd: its first card and their number.
const CROWD_ROLE: &str = "DESS_DHCP_TEST_CROWD";
/// The machine's own address.
const AGENT: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);
/// How long a card waits for an answer, and how often it asks.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);
const TRIES: u32 = 3;
/// Every so many cards one does not take up what it is offered.
const UNDECIDED_EVERY: u8 = 5;

/// What a card was told: its number and address.
pub(crate) type Told = (u8, Ipv4Addr);

/// Asks for addresses and ends the program if it was started as the crowd.
pub(crate) fn ask_if_told() {
    let Ok(role) = std::env::var(CROWD_ROLE) else {
        return;
    };
    let mut numbers = role.split(' ').map(|word| word.parse::<u8>().unwrap());
    let (first, count) = (numbers.next().unwrap(), numbers.next().unwrap());
    let socket = UdpSocket::bind((AGENT, SERVER_PORT)).unwrap();
    socket.set_read_timeout(Some(ANSWER_LIMIT)).unwrap();
    for card in first..first + count {
        let Some(offered) = ask(&socket, &message(MessageType::Discover, card)) else {
            break;
        };
        if card % UNDECIDED_EVERY == 0 {
            continue;
        }
        let mut request = message(MessageType::Request, card);
        let options = &mut request.options;
        options.set_address(option::code::REQUESTED_ADDRESS, offered);
        options.set_address(option::code::SERVER_IDENTIFIER, SERVER);
        let Some(address) = ask(&socket, &request) else {
            break;
        };
        println!("card {card} {address}");
    }
    println!("done");
    std::process::exit(0);
}

fn message(kind: MessageType, card: u8) -> Message {
    Message {
        op: Operation::Request,
        message_type: Some(kind),
        hops: 1,
        xid: card.into(),
        secs: 0,
        broadcast: false,
        ciaddr: Ipv4Addr::UNSPECIFIED,
        yiaddr: Ipv4Addr::UNSPECIFIED,
        siaddr: Ipv4Addr::UNSPECIFIED,
        giaddr: AGENT,
        chaddr: MacAddr([0x52, 0x54, 0, 0x99, 1, card]),
        sname: vec![],
        file: vec![],
        options: Options::default(),
    }
}

/// The address that the server's answer names; none if there is no answer, or a NAK.
fn ask(socket: &UdpSocket, message: &Message) -> Option<Ipv4Addr> {
    let mut datagram = Vec::new();
    message.encode(MESSAGE_BYTES_MAX, &mut datagram).unwrap();
    let mut buffer = [0; 2048];
    for _ in 0..TRIES {
        socket.send_to(&datagram, (SERVER, SERVER_PORT)).unwrap();
        while let Ok(length) = socket.recv(&mut buffer) {
            let answer = Message::decode(&buffer[..length]).unwrap();
            if answer.xid != message.xid {
                continue;
            }
            match (message.message_type, answer.message_type) {
                (Some(MessageType::Discover), Some(MessageType::Offer))
                | (Some(MessageType::Request), Some(MessageType::Ack)) => {
                    return Some(answer.yiaddr);
                }
                (_, Some(MessageType::Nak)) => return None,
                _ => {}
            }
        }
    }
    None
}

/// Lets cards ask one after the other, on machine `crowd`: so many from this number on. What each
/// was told by an ACK goes to `told` at once; the crowd ends when `told` says false.
pub(crate) fn let_ask(
    room: &Room,
    test: &str,
    (first, count): (u8, u8),
    mut told: impl FnMut(Told) -> bool,
) {
    let program = std::env::current_exe().unwrap();
    let program = program.to_str().unwrap();
    let mut crowd = room
        .on("crowd", &[program, "--exact", test, "--nocapture"])
        .env(CROWD_ROLE, format!("{first} {count}"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(crowd.stdout.take().unwrap()).lines();
    for line in lines {
        let line = line.unwrap();
        // The test program's own words may come before it on the same line.
        let Some((_, card)) = line.split_once("card ") else {
            continue;
        };
        let (card, address) = card.split_once(' ').unwrap();
        if !told((card.parse().unwrap(), address.parse().unwrap())) {
            break;
        }
    }
    crowd.kill().unwrap();
    crowd.wait().unwrap();
}
