//! The bytes that wait on a connection: what was made for its client and did not go out, and what its
//! client began to send and did not finish. What waits is bounded for each connection and in all.

use bytes::{Buf, Bytes};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
};
use tokio::sync::Notify;

/// How many bytes of requests that are not whole, headers included, a connection may leave with the
/// server: as much as 120 calls of the default size take that are sent side by side, or 8 messages of
/// gateways. Over it the connection ends.
pub const MOST_UNREAD: usize = 8 * 1024 * 1024;

/// A client that takes its messages in smaller pieces earns nothing by it.
const SUBSTANTIAL: usize = 1024;

/// What waits on all connections.
#[derive(Debug)]
pub struct Total {
    bytes: AtomicUsize,
    most: usize,
    over: Notify,
}

impl Total {
    /// Nothing, of `most` bytes.
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { bytes: AtomicUsize::new(0), most, over: Notify::new() })
    }

    /// Whether more waits than may.
    pub fn is_over(&self) -> bool {
        self.bytes.load(Relaxed) > self.most
    }

    /// Waits until more waits than may.
    pub async fn over(&self) {
        while !self.is_over() {
            self.over.notified().await;
        }
    }

    fn add(&self, bytes: usize) {
        let before = self.bytes.fetch_add(bytes, Relaxed);
        if before <= self.most && before + bytes > self.most {
            self.over.notify_one();
        }
    }

    fn subtract(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Relaxed);
    }
}

/// What waits on one connection.
#[derive(Debug)]
pub struct Account {
    total: Arc<Total>,
    /// What was made for the client, counted from then until it is in the socket.
    unsent: AtomicUsize,
    /// From here on nothing more is made.
    most_unsent: usize,
    unread: AtomicUsize,
    /// Over it the connection ends.
    most_unread: usize,
    /// Whether the other side is a node, which takes REFUSED_STREAM at its word.
    is_of_node: bool,
    /// How many pieces were handed over to be sent, but for those that a small window cut off.
    sent: AtomicU64,
    waiters: Mutex<Waiters>,
    /// The shared messages that its streams hold because they cannot be sent: where each ends in
    /// memory, how many bytes it has, and how many streams hold it. Each is counted once.
    held: Mutex<FxHashMap<usize, (usize, usize)>>,
}

/// Who waits until something may be made, in order.
#[derive(Debug, Default)]
struct Waiters {
    tickets: u64,
    wakers: BTreeMap<u64, Waker>,
}

impl Account {
    /// That of a new connection.
    pub fn new(
        total: Arc<Total>,
        most_unsent: usize,
        most_unread: usize,
        is_of_node: bool,
    ) -> Arc<Self> {
        Arc::new(Self {
            total,
            unsent: AtomicUsize::new(0),
            most_unsent,
            unread: AtomicUsize::new(0),
            most_unread,
            is_of_node,
            sent: AtomicU64::new(0),
            waiters: Mutex::default(),
            held: Mutex::default(),
        })
    }

    /// All that waits.
    pub fn bytes(&self) -> usize {
        self.unsent.load(Relaxed) + self.unread.load(Relaxed)
    }

    /// How many pieces were handed over to be sent.
    pub fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    /// Whether the client has left more of its requests unfinished than it may.
    pub fn is_swollen(&self) -> bool {
        self.unread.load(Relaxed) > self.most_unread
    }

    /// Whether the other side is a node.
    pub fn is_of_node(&self) -> bool {
        self.is_of_node
    }

    /// Whether anything may be made now.
    pub fn has_room(&self) -> bool {
        self.unsent.load(Relaxed) < self.most_unsent
    }

    fn add(&self, bytes: usize) {
        self.unsent.fetch_add(bytes, Relaxed);
        self.total.add(bytes);
    }

    fn subtract(&self, bytes: usize) {
        self.total.subtract(bytes);
        let before = self.unsent.fetch_sub(bytes, Relaxed);
        if before >= self.most_unsent && before - bytes < self.most_unsent {
            self.wake_next();
        }
    }

    fn hold(&self, end: usize, bytes: usize) {
        let mut held = self.held.lock();
        let (_, streams) = held.entry(end).or_insert((bytes, 0));
        *streams += 1;
        if *streams == 1 {
            drop(held);
            self.add(bytes);
        }
    }

    fn let_go(&self, end: usize) {
        let mut held = self.held.lock();
        let Some((bytes, streams)) = held.get_mut(&end) else { return };
        *streams -= 1;
        if *streams == 0 {
            let bytes = *bytes;
            held.remove(&end);
            drop(held);
            self.subtract(bytes);
        }
    }

    /// The call that is woken makes something, or wakes the next.
    fn wake_next(&self) {
        let next = self.waiters.lock().wakers.pop_first();
        next.into_iter().for_each(|(_, waker)| waker.wake());
    }
}

/// A piece of a message on its way to the socket, which is counted as long as it is there.
#[derive(Debug)]
pub struct Piece {
    bytes: Bytes,
    counted: usize,
    /// It is among the shared messages that are held, by where it ends.
    held: Option<usize>,
    account: Arc<Account>,
}

impl Piece {
    /// Counted from now on.
    pub fn new(bytes: Bytes, account: &Arc<Account>) -> Self {
        account.add(bytes.len());
        Self { counted: bytes.len(), bytes, held: None, account: account.clone() }
    }

    /// A message that others may hold too: then it is counted as far as it is handed over, and once
    /// for all streams of the connection that hold it.
    pub fn of_message(bytes: Bytes, account: &Arc<Account>) -> Self {
        match bytes.is_unique() {
            true => Self::new(bytes, account),
            false => Self { counted: 0, bytes, held: None, account: account.clone() },
        }
    }

    /// It cannot be sent now: from here on a shared message counts too.
    pub fn hold(&mut self) {
        if self.counted == 0 && self.held.is_none() && !self.bytes.is_empty() {
            let end = self.bytes.as_ptr_range().end.addr();
            self.account.hold(end, self.bytes.len());
            self.held = Some(end);
        }
    }

    /// How many bytes it has.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The first `count` bytes, to be handed over.
    pub fn split_to(&mut self, count: usize) -> Self {
        if count == self.bytes() || count >= SUBSTANTIAL {
            self.account.sent.fetch_add(1, Relaxed);
        }
        let bytes = self.bytes.split_to(count);
        if self.counted == 0 {
            return Self::new(bytes, &self.account);
        }
        self.counted -= count;
        Self { bytes, counted: count, held: None, account: self.account.clone() }
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.bytes
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        if self.counted > 0 {
            self.account.subtract(self.counted);
        }
        if let Some(end) = self.held {
            self.account.let_go(end);
        }
    }
}

/// What one call has left unfinished.
#[derive(Debug)]
pub struct Unread {
    account: Arc<Account>,
    bytes: usize,
}

impl Unread {
    /// Nothing.
    pub fn new(account: &Arc<Account>) -> Self {
        Self { account: account.clone(), bytes: 0 }
    }

    /// So much.
    pub fn set(&mut self, bytes: usize) {
        if bytes > self.bytes {
            self.account.unread.fetch_add(bytes - self.bytes, Relaxed);
            self.account.total.add(bytes - self.bytes);
        } else if bytes < self.bytes {
            self.account.unread.fetch_sub(self.bytes - bytes, Relaxed);
            self.account.total.subtract(self.bytes - bytes);
        }
        self.bytes = bytes;
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// One call's place among those who wait until something may be made.
#[derive(Debug)]
pub struct Room {
    account: Arc<Account>,
    /// Its place, since it waits.
    ticket: Option<u64>,
}

impl Room {
    /// It does not wait yet.
    pub fn new(account: &Arc<Account>) -> Self {
        Self { account: account.clone(), ticket: None }
    }

    /// Waits until something may be made for the client.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.ticket.is_none() && self.account.has_room() {
            return Poll::Ready(());
        }
        let mut waiters = self.account.waiters.lock();
        // What went out meanwhile woke nobody else.
        if self.account.has_room() {
            if let Some(ticket) = self.ticket.take() {
                waiters.wakers.remove(&ticket);
            }
            drop(waiters);
            // The next one is woken now and looks only after this one has made its share.
            self.account.wake_next();
            return Poll::Ready(());
        }
        let ticket = *self.ticket.get_or_insert_with(|| {
            waiters.tickets += 1;
            waiters.tickets
        });
        waiters.wakers.insert(ticket, cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            let known = self.account.waiters.lock().wakers.remove(&ticket);
            // It was woken for nothing.
            if known.is_none() && self.account.has_room() {
                self.account.wake_next();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;
    use std::task::Wake;

    fn account(most_unsent: usize, most: usize) -> Arc<Account> {
        Account::new(Total::new(most), most_unsent, MOST_UNREAD, false)
    }

    #[test]
    fn a_shared_message_that_cannot_be_sent_counts_once_for_all_streams_that_hold_it() {
        let account = account(1000, 1000);
        let shared = Bytes::from(vec![7; 600]);
        let mut pieces: Vec<_> =
            (0..3).map(|_| Piece::of_message(shared.clone(), &account)).collect();
        assert_eq!(account.bytes(), 0);
        let sent = pieces[0].split_to(100);
        assert_eq!(account.bytes(), 100);
        drop(sent);
        pieces.iter_mut().for_each(Piece::hold);
        pieces.iter_mut().for_each(Piece::hold);
        assert_eq!(account.bytes(), 500, "as much as the first has left");
        drop(shared);
        pieces.truncate(1);
        assert_eq!(account.bytes(), 500, "others are gone, and it is still there");
        pieces.clear();
        assert_eq!(account.bytes(), 0);
    }

    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Relaxed);
        }
    }

    impl Woken {
        fn poll(self: &Arc<Self>, room: &mut Room) -> bool {
            self.0.store(false, Relaxed);
            let waker = self.clone().into();
            room.poll(&mut Context::from_waker(&waker)).is_ready()
        }

        fn is(&self) -> bool {
            self.0.load(Relaxed)
        }
    }

    #[test]
    fn a_piece_is_counted_until_all_its_parts_are_gone() {
        let account = account(10, 100);
        let mut whole = Piece::new(Bytes::from_static(b"12345678"), &account);
        let mut part = whole.split_to(3);
        part.advance(2);
        assert_eq!((part.chunk(), whole.chunk(), account.bytes()), (&b"3"[..], &b"45678"[..], 8));
        drop(part);
        assert_eq!((account.bytes(), account.sent()), (5, 0), "a small part is nothing");
        drop(whole.split_to(5));
        assert_eq!(account.sent(), 1);
        drop(whole);
        assert_eq!(account.bytes(), 0);
    }

    #[test]
    fn a_message_that_is_shared_is_counted_as_far_as_it_is_handed_over() {
        let account = account(10, 100);
        let message = Bytes::from(vec![0; 8]);
        let mut shared = Piece::of_message(message.clone(), &account);
        assert_eq!(account.bytes(), 0);
        let part = shared.split_to(3);
        assert_eq!(account.bytes(), 3);
        drop((part, shared));
        assert_eq!(account.bytes(), 0);
        let _alone = Piece::of_message(message, &account);
        assert_eq!(account.bytes(), 8);
    }

    #[test]
    fn who_waits_for_room_is_woken_one_after_the_other() {
        let account = account(10, 100);
        let full = Piece::new(Bytes::from_static(&[0; 10]), &account);
        let mut waiting: Vec<_> =
            (0..3).map(|_| (Arc::new(Woken::default()), Room::new(&account))).collect();
        assert!(waiting.iter_mut().all(|(woken, room)| !woken.poll(room)));
        drop(full);
        let woken = |waiting: &[(Arc<Woken>, Room)]| -> Vec<bool> {
            waiting.iter().map(|(woken, _)| woken.is()).collect()
        };
        assert_eq!(woken(&waiting), [true, false, false]);
        // The first makes so much that the second finds no room.
        let (first, room) = &mut waiting[0];
        assert!(first.poll(room));
        let full = Piece::new(Bytes::from_static(&[0; 11]), &account);
        assert_eq!(woken(&waiting), [false, true, false]);
        let (second, room) = &mut waiting[1];
        assert!(!second.poll(room));
        drop(full);
        // It keeps its place before the third, and if it goes the third has it.
        assert_eq!(woken(&waiting), [false, true, false]);
        waiting.remove(1);
        assert_eq!(woken(&waiting), [false, true]);
    }

    #[test]
    fn what_waits_in_all_is_what_waits_on_each_connection() {
        let total = Total::new(20);
        let account = || Account::new(total.clone(), 10, MOST_UNREAD, false);
        let accounts = [account(), account()];
        let _piece = Piece::new(Bytes::from_static(&[0; 15]), &accounts[0]);
        let mut unread = Unread::new(&accounts[1]);
        unread.set(5);
        assert!(!total.is_over());
        unread.set(6);
        assert!(total.is_over());
        drop(unread);
        assert!(!total.is_over());
    }
}
