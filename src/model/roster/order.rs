//! A server numbers what it sends, and its answers to us come in that order. Who speaks in its place makes numbers up.

/// The numbers of a server's answers of one kind.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Numbers {
    newest: u64,
    /// The newest that came after one that is newer, how many such there were, and how many since an answer was taken in.
    behind: u64,
    behind_count: u32,
    in_a_row: u32,
    /// The question that was answered last.
    question: u64,
}

/// Where an answer stands among those before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// It is newer, or has no number.
    Next,
    /// It was there before, or is older than one that was: a copy that somebody sends once more must not take the place
    /// of the true answer.
    Copy,
    /// This question is answered already, by an older one: one of them is not the server's.
    Twice,
    /// Not the first that is older than this one, which is not of the same server then.
    Behind(u64),
    /// As [`Self::Behind`], and so were those before it: that one was not the server's.
    Restored(u64),
}

impl Numbers {
    /// Whoever makes up one number silences nobody for longer than so many answers.
    const IN_A_ROW: u32 = 3;

    /// `question` is one that each server is asked once.
    pub(super) fn order(&mut self, number: u64, question: Option<u64>, in_order: bool) -> Order {
        if number == 0 || number > self.newest {
            let asked = question.filter(|_| number > 0).unwrap_or_default();
            let before = std::mem::replace(&mut self.question, asked);
            return if asked > 0 && asked == before { Order::Twice } else { Order::Next };
        }
        if !in_order || number == self.newest || number <= self.behind {
            return Order::Copy;
        }
        self.behind = number;
        self.behind_count = self.behind_count.saturating_add(1);
        self.in_a_row += 1;
        if self.in_a_row >= Self::IN_A_ROW {
            return Order::Restored(std::mem::replace(&mut self.newest, number));
        }
        // One may be a copy of an answer of before.
        if self.behind_count > 1 { Order::Behind(self.newest) } else { Order::Copy }
    }

    pub(super) fn take(&mut self, number: u64) {
        self.newest = self.newest.max(number);
        self.in_a_row = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_is_sent_once_more_is_known_by_its_number() {
        let mut numbers = Numbers::default();
        for number in [3, 7] {
            assert_eq!(numbers.order(number, None, true), Order::Next);
            numbers.take(number);
            assert_eq!(numbers.order(number, None, true), Order::Copy);
        }
        for _ in 0..10 {
            assert_eq!(numbers.order(3, None, true), Order::Copy);
        }
        assert_eq!(numbers.order(0, None, true), Order::Next, "without a number nothing can be told");
    }

    #[test]
    fn one_number_that_is_made_up_does_not_silence_the_server() {
        let mut numbers = Numbers::default();
        numbers.take(u64::MAX);
        for _ in 0..10 {
            assert_eq!(numbers.order(10, None, true), Order::Copy);
        }
        assert_eq!(numbers.order(11, None, true), Order::Behind(u64::MAX));
        assert_eq!(numbers.order(11, None, true), Order::Copy, "it counts once");
        assert_eq!(numbers.order(12, None, true), Order::Restored(u64::MAX));
        numbers.take(12);
        assert_eq!(numbers.order(13, None, true), Order::Next);
        // Who goes on is believed, and told of.
        for number in 20..100 {
            numbers.take(number * 1000);
            assert_eq!(numbers.order(number, None, true), Order::Behind(number * 1000));
        }
    }

    #[test]
    fn of_two_answers_to_one_question_the_second_is_not_the_servers() {
        let mut numbers = Numbers::default();
        for (number, question, order) in [
            (10, Some(1), Order::Next),
            (10, Some(1), Order::Copy),
            (11, Some(1), Order::Twice),
            (12, Some(1), Order::Twice),
            (20, Some(2), Order::Next),
            (30, None, Order::Next),
            (31, None, Order::Next),
            (0, Some(3), Order::Next),
            (0, Some(3), Order::Next),
        ] {
            assert_eq!(numbers.order(number, question, true), order, "{number} to {question:?}");
            if order == Order::Next {
                numbers.take(number);
            }
        }
    }

    #[test]
    fn answers_by_several_ways_come_in_any_order() {
        let mut numbers = Numbers::default();
        numbers.take(100);
        for number in 1..=100 {
            assert_eq!(numbers.order(number, None, false), Order::Copy);
        }
    }
}
