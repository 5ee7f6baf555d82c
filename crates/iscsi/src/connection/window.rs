//! The command window (RFC 7143 §4.2.2.1).

/// Where a command number lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The next one.
    Next,
    /// Within the window, but others are missing before it.
    Early,
    /// Outside: to be dropped silently.
    Outside,
}

/// Command numbers: which come next and how many may be in work.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    exp_cmd_sn: u32,
    depth: u32,
    in_work: u32,
}

impl Window {
    pub(super) fn new(exp_cmd_sn: u32, depth: u16) -> Self {
        Self {
            exp_cmd_sn,
            depth: u32::from(depth.max(1)),
            in_work: 0,
        }
    }

    pub(super) fn exp_cmd_sn(self) -> u32 {
        self.exp_cmd_sn
    }

    /// Never goes back: a command that comes moves `exp_cmd_sn` by as much as it takes room.
    pub(super) fn max_cmd_sn(self) -> u32 {
        self.exp_cmd_sn
            .wrapping_add(self.depth - self.in_work)
            .wrapping_sub(1)
    }

    pub(super) fn place(self, cmd_sn: u32) -> Place {
        match cmd_sn.wrapping_sub(self.exp_cmd_sn) {
            ahead if ahead >= self.depth - self.in_work => Place::Outside,
            0 => Place::Next,
            _ => Place::Early,
        }
    }

    /// The next command came; with it the window moves on.
    pub(super) fn advance(&mut self) {
        self.exp_cmd_sn = self.exp_cmd_sn.wrapping_add(1);
    }

    /// The command that just came stays in work for a while.
    pub(super) fn occupy(&mut self) {
        debug_assert!(self.in_work < self.depth, "commands outside are dropped");
        self.in_work += 1;
    }

    /// A command in work is done.
    pub(super) fn release(&mut self) {
        debug_assert!(self.in_work > 0, "only what occupies is released");
        self.in_work -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_outside_the_window_are_told_apart_across_the_wrap() {
        let window = Window::new(0xffff_fffe, 4);
        assert_eq!(window.max_cmd_sn(), 1);
        assert_eq!(window.place(0xffff_fffe), Place::Next);
        assert_eq!(window.place(0), Place::Early);
        assert_eq!(window.place(1), Place::Early);
        assert_eq!(window.place(2), Place::Outside);
        assert_eq!(window.place(0xffff_fffd), Place::Outside);
    }

    #[test]
    fn the_end_of_the_window_moves_only_when_work_is_done() {
        let mut window = Window::new(10, 2);
        assert_eq!(window.max_cmd_sn(), 11);
        for _ in 0..2 {
            window.advance();
            window.occupy();
        }
        assert_eq!((window.exp_cmd_sn(), window.max_cmd_sn()), (12, 11));
        assert_eq!(window.place(12), Place::Outside);
        window.release();
        assert_eq!(window.max_cmd_sn(), 12);
        assert_eq!(window.place(12), Place::Next);
    }
}
