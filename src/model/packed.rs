//! What is remembered from look to look of a hundred thousand links, in as little room as it takes: a number in as
//! many bytes as it is long, a time as the time that passed since.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use super::{Name, Time};

/// What can be packed.
pub(super) trait Pack {
    fn pack(&self, to: &mut Packer);
    /// As [`Self::pack`] wrote it.
    fn unpack(from: &mut Packet<'_>) -> Self;
}

/// Values by name, in order.
#[derive(Debug)]
pub(super) struct Packed<V> {
    at: Time,
    keys: Keys,
    names: Box<[Name]>,
    bytes: Box<[u8]>,
    of: PhantomData<V>,
}

/// The names by which values are kept. The servers of a cluster have the same ones, so that those are kept once.
#[derive(Clone, Debug, Default)]
pub(super) struct Keys(Arc<[Name]>);

impl Keys {
    /// Those of `values`; itself, where they are the same.
    fn of<V>(&self, values: &[(Name, V)]) -> Self {
        let keys = values.iter().map(|(name, _)| name);
        if self.0.iter().eq(keys.clone()) { self.clone() } else { Self(keys.cloned().collect()) }
    }
}

impl<V: Pack> Packed<V> {
    /// `at` is about when what is told in `values` was; `keys` are those of another one, and then of this one.
    pub(super) fn of(values: &[(Name, V)], at: Time, keys: &mut Keys) -> Self {
        let room = values.len();
        let mut to = Packer { at, names: Vec::with_capacity(room), bytes: Vec::with_capacity(room * 64) };
        *keys = keys.of(values);
        for (_, value) in values {
            value.pack(&mut to);
        }
        // A copy, for memory that is cut to size leaves a piece behind that fits nothing.
        let (names, bytes) = (to.names.into(), to.bytes.as_slice().into());
        Self { at, keys: keys.clone(), names, bytes, of: PhantomData }
    }

    pub(super) fn open(&self) -> Vec<(Name, V)> {
        let mut from = Packet { at: self.at, names: self.names.iter(), bytes: Bytes(&self.bytes) };
        self.keys.0.iter().map(|name| (name.clone(), V::unpack(&mut from))).collect()
    }

    pub(super) const fn at(&self) -> Time {
        self.at
    }

    pub(super) fn len(&self) -> usize {
        self.keys.0.len()
    }
}

impl Pack for Time {
    fn pack(&self, to: &mut Packer) {
        to.time(Some(*self));
    }

    fn unpack(from: &mut Packet<'_>) -> Self {
        from.time().unwrap_or_default()
    }
}

/// To where values are packed.
#[derive(Debug)]
pub(super) struct Packer {
    at: Time,
    names: Vec<Name>,
    bytes: Vec<u8>,
}

impl Packer {
    pub(super) fn name(&mut self, name: &Name) {
        self.names.push(name.clone());
    }

    pub(super) fn number(&mut self, number: impl Into<u64>) {
        put(&mut self.bytes, number.into());
    }

    /// Less than the largest.
    pub(super) fn perhaps(&mut self, number: Option<impl Into<u64>>) {
        self.number(number.map_or(0, |number| number.into().saturating_add(1)));
    }

    pub(super) fn time(&mut self, time: Option<Time>) {
        let passed = time.map(|time| self.at.as_nanos().wrapping_sub(time.as_nanos()).cast_signed());
        // As small when it lies ahead.
        self.perhaps(passed.map(|passed| ((passed << 1) ^ (passed >> 63)).cast_unsigned()));
    }
}

/// From where values are unpacked.
#[derive(Debug)]
pub(super) struct Packet<'a> {
    at: Time,
    names: std::slice::Iter<'a, Name>,
    bytes: Bytes<'a>,
}

impl Packet<'_> {
    pub(super) fn name(&mut self) -> Name {
        self.names.next().cloned().unwrap_or_default()
    }

    pub(super) fn number(&mut self) -> u64 {
        self.bytes.number()
    }

    pub(super) fn perhaps(&mut self) -> Option<u64> {
        self.number().checked_sub(1)
    }

    pub(super) fn time(&mut self) -> Option<Time> {
        let passed = self.perhaps()?;
        let passed = (passed >> 1) ^ (passed & 1).wrapping_neg();
        Some(Time::from_nanos(self.at.as_nanos().wrapping_sub(passed)))
    }
}

/// Seven bits a byte, the lowest first; the highest bit tells that more follow.
pub(super) fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        bytes.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    bytes.push(number.to_le_bytes()[0]);
}

/// A duration in two numbers.
pub(super) fn parts(duration: Duration) -> [u64; 2] {
    [duration.as_secs(), u64::from(duration.subsec_nanos())]
}

/// What [`put`] wrote; zeros behind its end.
#[derive(Debug)]
pub(super) struct Bytes<'a>(pub(super) &'a [u8]);

impl Bytes<'_> {
    pub(super) fn byte(&mut self) -> u8 {
        self.0.split_off_first().copied().unwrap_or_default()
    }

    pub(super) fn number(&mut self) -> u64 {
        let mut number = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.byte();
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        number
    }

    /// Of its [`parts`].
    pub(super) fn duration(&mut self) -> Duration {
        let secs = Duration::from_secs(self.number());
        secs.saturating_add(Duration::from_nanos(self.number()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug, PartialEq)]
    struct Sample(u64, Option<u64>, Option<Time>, Name);

    impl Pack for Sample {
        fn pack(&self, to: &mut Packer) {
            to.number(self.0);
            to.perhaps(self.1);
            to.time(self.2);
            to.name(&self.3);
        }

        fn unpack(from: &mut Packet<'_>) -> Self {
            Self(from.number(), from.perhaps(), from.time(), from.name())
        }
    }

    #[test]
    fn what_is_packed_is_unpacked_as_it_was() {
        let numbers = [0, 1, 127, 128, 16_383, 16_384, 1 << 40, u64::MAX - 1, u64::MAX];
        let most = |n: u64| n.min(u64::MAX - 1);
        let sample = |n: u64| {
            Sample(n, Some(most(n)), Some(Time::from_nanos(most(n))), Name::from(n.to_string().as_str()))
        };
        let samples = numbers.map(sample).into_iter().chain([Sample(7, None, None, Name::default())]);
        let samples: Vec<(Name, Sample)> = samples.map(|sample| (sample.3.clone(), sample)).collect();
        for at in numbers.map(most).map(Time::from_nanos) {
            let packed = Packed::of(&samples, at, &mut Keys::default());
            assert_eq!((packed.len(), packed.open()), (samples.len(), samples.clone()), "{at}");
        }
    }

    #[test]
    fn what_is_near_takes_few_bytes() {
        let at = Time::from_millis(1_700_000_000_000);
        let one = |time| vec![("n".into(), Sample(5, Some(99), Some(time), Name::default()))];
        let bytes = |time| Packed::of(&one(time), at, &mut Keys::default()).bytes.len();
        assert_eq!(bytes(at), 3);
        assert!(bytes(at.minus(Duration::from_secs(15))) <= 8);
    }

    #[test]
    fn the_same_names_are_kept_once() {
        let values = |names: &[&str]| {
            let one = |name: &&str| (Name::from(*name), Time::default());
            names.iter().map(one).collect::<Vec<_>>()
        };
        let mut keys = Keys::default();
        let mut of = |names: &[&str]| Packed::of(&values(names), Time::default(), &mut keys);
        let [a, b, c, d] = [&["eu", "us"][..], &["eu", "us"], &["eu"], &[]].map(&mut of);
        assert!(Arc::ptr_eq(&a.keys.0, &b.keys.0) && !Arc::ptr_eq(&b.keys.0, &c.keys.0));
        assert_eq!([a.len(), b.len(), c.len(), d.len()], [2, 2, 1, 0]);
        assert_eq!(c.open(), values(&["eu"]));
    }
}
