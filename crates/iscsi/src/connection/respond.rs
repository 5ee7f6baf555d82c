//! Answers to SCSI commands: Data-In, status, sense, residuals (RFC 7143 §11.4, §11.7).

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;
use tracing::trace;

use super::full_feature::FullFeature;
use super::outbox::Outbox;
use super::tasks::TaskState;
use crate::command::{ScsiResponse, TaskId};
use crate::pdu::{DataIn, DataInStatus, Residual, ScsiResponsePdu, Sequence};

const STATUS_GOOD: u8 = 0;

/// The next Data-In PDU of a command.
#[derive(Clone, Copy)]
struct Cut {
    length: u32,
    /// Ends a sequence of at most MaxBurstLength, or all of the data.
    last: bool,
}

impl FullFeature {
    pub(super) fn complete_read<E>(
        &mut self,
        outbox: &mut Outbox,
        id: TaskId,
        transfer_length: u32,
        fill: impl FnMut(usize, &mut [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some((itt, expected, sent)) = self.open_read(id) else {
            return Ok(());
        };
        let end = transfer_length.min(expected);
        if sent >= end {
            self.complete(outbox, id, ScsiResponse::good(u64::from(transfer_length)));
            return Ok(());
        }
        let residual = Residual::between(expected, u64::from(transfer_length));
        self.fill_data_in(outbox, (id, itt), sent..end, residual, fill)?;
        self.admit_waiting(outbox);
        Ok(())
    }

    /// Lets `fill` write the last part of a command's data into the output, with the status (phase
    /// collapse).
    fn fill_data_in<E>(
        &mut self,
        outbox: &mut Outbox,
        (id, itt): (TaskId, u32),
        range: Range<u32>,
        residual: Residual,
        mut fill: impl FnMut(usize, &mut [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mark = outbox.output.len();
        let mut offset = range.start;
        let mut data_sn = self.tasks.get(id).map_or(0, |task| task.data_sn);
        while offset < range.end {
            let cut = self.cut(offset, range.end);
            let place = outbox.extend(cut.length as usize);
            if let Err(error) = fill(offset as usize, place.data(&mut outbox.output)) {
                outbox.output.truncate(mark);
                return Err(error);
            }
            let is_end = offset + cut.length == range.end;
            let (status, sequence) = if is_end {
                self.remove(outbox, id);
                (Some(good(residual)), outbox.next_sequence())
            } else {
                (None, outbox.past_sequence())
            };
            let header = data_in(itt, cut, status, sequence, data_sn, offset);
            outbox.seal(place, &header.encode(cut.length as usize));
            data_sn += 1;
            offset += cut.length;
        }
        Ok(())
    }

    pub(super) fn provide_data_in(&mut self, outbox: &mut Outbox, id: TaskId, data: Bytes) {
        let Some((itt, expected, sent)) = self.open_read(id) else {
            return;
        };
        let mut pieces = VecDeque::from([data]);
        let end = sent + available(&pieces, expected - sent);
        self.send_data_in(outbox, id, itt, end, &mut pieces);
    }

    pub(super) fn complete(&mut self, outbox: &mut Outbox, id: TaskId, response: ScsiResponse) {
        let Some(task) = self.tasks.get_mut(id) else {
            trace!("an answer to an aborted command is dropped");
            return;
        };
        if !matches!(task.state, TaskState::Delivered) {
            debug_assert!(false, "a command is answered once, as a command");
            return;
        }
        let (itt, expected, read) = (task.itt, task.expected, task.read);
        let mut pieces = VecDeque::from(response.data_in);
        let mut end = task.sent;
        if read {
            end += available(&pieces, expected - task.sent);
        }
        let mut transfer_length = response.transfer_length;
        if read && u64::from(end) < transfer_length.min(u64::from(expected)) {
            // Less data than the command asks for: the rest was not moved.
            transfer_length = u64::from(end);
        } else if read {
            transfer_length = transfer_length.max(u64::from(end));
        }
        let residual = Residual::between(expected, transfer_length);
        let has_data = end > task.sent;
        if has_data && response.status == STATUS_GOOD && response.sense.is_empty() {
            return self.finish_with_data(outbox, id, itt, end, residual, &mut pieces);
        }
        self.send_data_in(outbox, id, itt, end, &mut pieces);
        let Some(task) = self.remove(outbox, id) else {
            return;
        };
        let header = ScsiResponsePdu {
            response: 0,
            status: response.status,
            itt,
            sequence: outbox.next_sequence(),
            exp_data_sn: task.data_sn,
            residual,
        };
        send_status(outbox, &header, &response.sense);
        self.admit_waiting(outbox);
    }

    /// Tag, expected length and progress of a command that may still get data.
    fn open_read(&mut self, id: TaskId) -> Option<(u32, u32, u32)> {
        let task = self.tasks.get_mut(id)?;
        if !matches!(task.state, TaskState::Delivered) {
            return None;
        }
        let expected = if task.read { task.expected } else { 0 };
        Some((task.itt, expected, task.sent))
    }

    /// Where the next Data-In PDU ends: a segment that the initiator takes, within a burst.
    fn cut(&self, offset: u32, end: u32) -> Cut {
        let burst = self.parameters.max_burst_length;
        let segment = self.parameters.initiator_max_recv_data_segment_length;
        let burst_left = burst - offset % burst;
        let length = (end - offset).min(segment).min(burst_left);
        Cut {
            length,
            last: length == burst_left || offset + length == end,
        }
    }

    /// Sends data up to `end`, without status.
    fn send_data_in(
        &mut self,
        outbox: &mut Outbox,
        id: TaskId,
        itt: u32,
        end: u32,
        pieces: &mut VecDeque<Bytes>,
    ) {
        while let Some((offset, data_sn)) = self.progress(id).filter(|(offset, _)| *offset < end) {
            let cut = self.cut(offset, end);
            let header = data_in(itt, cut, None, outbox.past_sequence(), data_sn, offset);
            send_cut(outbox, &header, cut, pieces);
            self.move_on(id, cut);
        }
    }

    /// Sends data up to `end`; the last PDU carries the status (phase collapse).
    fn finish_with_data(
        &mut self,
        outbox: &mut Outbox,
        id: TaskId,
        itt: u32,
        end: u32,
        residual: Residual,
        pieces: &mut VecDeque<Bytes>,
    ) {
        while let Some((offset, data_sn)) = self.progress(id) {
            let cut = self.cut(offset, end);
            let is_end = offset + cut.length == end;
            let (status, sequence) = if is_end {
                self.remove(outbox, id);
                (Some(good(residual)), outbox.next_sequence())
            } else {
                (None, outbox.past_sequence())
            };
            let header = data_in(itt, cut, status, sequence, data_sn, offset);
            send_cut(outbox, &header, cut, pieces);
            self.move_on(id, cut);
        }
        self.admit_waiting(outbox);
    }

    fn progress(&mut self, id: TaskId) -> Option<(u32, u32)> {
        self.tasks.get_mut(id).map(|task| (task.sent, task.data_sn))
    }

    fn move_on(&mut self, id: TaskId, cut: Cut) {
        if let Some(task) = self.tasks.get_mut(id) {
            task.sent += cut.length;
            task.data_sn += 1;
        }
    }
}

fn good(residual: Residual) -> DataInStatus {
    DataInStatus {
        status: STATUS_GOOD,
        residual,
    }
}

fn data_in(
    itt: u32,
    cut: Cut,
    status: Option<DataInStatus>,
    sequence: Sequence,
    data_sn: u32,
    buffer_offset: u32,
) -> DataIn {
    DataIn {
        last: cut.last,
        status,
        itt,
        sequence,
        data_sn,
        buffer_offset,
    }
}

/// Length of the pieces, at most `limit`.
fn available(pieces: &VecDeque<Bytes>, limit: u32) -> u32 {
    let length: usize = pieces.iter().map(Bytes::len).sum();
    u32::try_from(length).unwrap_or(u32::MAX).min(limit)
}

fn send_cut(outbox: &mut Outbox, header: &DataIn, cut: Cut, pieces: &mut VecDeque<Bytes>) {
    let mut left = cut.length as usize;
    let header = header.encode(left);
    let taken = std::iter::from_fn(|| {
        while left > 0 {
            let front = pieces.front_mut()?;
            let piece = front.split_to(front.len().min(left));
            if front.is_empty() {
                pieces.pop_front();
            }
            if !piece.is_empty() {
                left -= piece.len();
                return Some(piece);
            }
        }
        None
    });
    outbox.send_shared(&header, taken);
}

fn send_status(outbox: &mut Outbox, header: &ScsiResponsePdu, sense: &[u8]) {
    if sense.is_empty() {
        return outbox.send(&header.encode(0), &[]);
    }
    // SPC-4 bounds sense data by 252 bytes, so its length fits the field.
    let sense = &sense[..sense.len().min(252)];
    let mut data = [0; 2 + 252];
    data[..2].copy_from_slice(&(sense.len() as u16).to_be_bytes());
    data[2..2 + sense.len()].copy_from_slice(sense);
    let data = &data[..2 + sense.len()];
    outbox.send(&header.encode(data.len()), data);
}
