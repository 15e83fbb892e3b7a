//! Durations as Go prints them.

use std::time::Duration;

const NS_PER_S: u64 = 1_000_000_000;

/// Reads a duration as Go prints it: `1h2m3.5s`, `198µs`. None when it is not one, or longer than 584 years.
pub fn go_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text.as_bytes();
    let mut total_ns = 0_u64;
    while !rest.is_empty() {
        let (whole, tail) = digits(rest);
        let (parts, tail) = match tail.strip_prefix(b".") {
            Some(tail) => digits(tail),
            None => (&[][..], tail),
        };
        if whole.is_empty() && parts.is_empty() {
            return None;
        }
        let (unit_ns, tail) = unit(tail)?;
        let ns = number(whole)?.checked_mul(unit_ns)?.checked_add(part_ns(parts, unit_ns))?;
        total_ns = total_ns.checked_add(ns)?;
        rest = tail;
    }
    (!text.is_empty()).then(|| Duration::from_nanos(total_ns))
}

fn digits(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|b| !b.is_ascii_digit()).unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, &[]))
}

fn unit(text: &[u8]) -> Option<(u64, &[u8])> {
    Some(match text {
        [b'n', b's', tail @ ..] => (1, tail),
        // The micro sign and the letter mu.
        [b'u', b's', tail @ ..] | [0xc2, 0xb5, b's', tail @ ..] | [0xce, 0xbc, b's', tail @ ..] => {
            (1_000, tail)
        }
        [b'm', b's', tail @ ..] => (1_000_000, tail),
        [b's', tail @ ..] => (NS_PER_S, tail),
        [b'm', tail @ ..] => (60 * NS_PER_S, tail),
        [b'h', tail @ ..] => (3600 * NS_PER_S, tail),
        _ => return None,
    })
}

fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0_u64, |n, b| n.checked_mul(10)?.checked_add(u64::from(b - b'0')))
}

/// What stands behind the point; Go writes nine digits at the most, and none before `m` and `h`.
fn part_ns(digits: &[u8], unit_ns: u64) -> u64 {
    let mut billionths = 0;
    let mut place = NS_PER_S / 10;
    for digit in digits {
        billionths += u64::from(digit - b'0') * place;
        place /= 10;
    }
    if unit_ns <= NS_PER_S {
        return billionths * unit_ns / NS_PER_S;
    }
    billionths * (unit_ns / NS_PER_S)
}
