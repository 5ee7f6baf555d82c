//! How much a connection may do before others of its thread get their turn.

/// Cost that one turn may use: about 0.1 ms of work of one processor.
const QUANTUM: i64 = 256 * 1024;
/// What a command costs besides its bytes, in bytes that take as long.
const COMMAND_COST: i64 = 4 * 1024;

/// The budget of a connection's turn, in bytes moved plus a fixed cost per command. What one turn
/// uses too much is missing in the next, so over time every connection that always has work gets
/// the same, however large its commands are.
#[derive(Debug)]
pub(crate) struct Turn {
    left: i64,
}

impl Turn {
    pub(crate) fn new() -> Self {
        Self { left: QUANTUM }
    }

    /// A new turn begins. What the one before did not use is lost.
    pub(crate) fn begin(&mut self) {
        self.left = (self.left.min(0)) + QUANTUM;
    }

    /// A command is carried out.
    pub(crate) fn charge_command(&mut self) {
        self.left -= COMMAND_COST;
    }

    /// Bytes are moved.
    pub(crate) fn charge_bytes(&mut self, bytes: u64) {
        self.left = self
            .left
            .saturating_sub(bytes.try_into().unwrap_or(i64::MAX));
    }

    /// True if others shall have their turn.
    pub(crate) fn is_over(&self) -> bool {
        self.left <= 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_turn_used_too_much_is_missing_later() {
        let mut turn = Turn::new();
        turn.charge_bytes(3 * QUANTUM as u64);
        assert!(turn.is_over());
        turn.begin();
        assert!(turn.is_over());
        turn.begin();
        assert!(turn.is_over());
        turn.begin();
        assert!(!turn.is_over());
    }

    #[test]
    fn nothing_is_saved_up() {
        let mut turn = Turn::new();
        for _ in 0..10 {
            turn.begin();
        }
        turn.charge_bytes(QUANTUM as u64);
        assert!(turn.is_over());
    }

    #[test]
    fn small_commands_use_up_a_turn_too() {
        let mut turn = Turn::new();
        let commands = (0..).take_while(|_| {
            turn.charge_command();
            !turn.is_over()
        });
        assert_eq!(commands.count() as i64, QUANTUM / COMMAND_COST - 1);
    }
}
