//! Faults, told by a line of text, and done to the world.

use super::world::{Fault, HOST, World};

/// The lines that are understood.
pub(super) const HELP: &str = "\
cut A REMOTE      the gateway of a server or cluster A to the cluster REMOTE is gone and stays away
kill A            a server, or all of a cluster, ends without a word
restart A         it says that it ends, and starts half a second later with another ID
silent A          it answers nothing and sends no heartbeat; a number means as many, chosen by the seed
late A MS         its answers come so many milliseconds late
garble A          its answers are cut short or damaged
lose PERCENT      so many of all answers are lost
heal              ends all of it; who was killed starts again";

/// What a line asks for.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Command {
    Cut(String, String),
    Kill(String),
    Restart(String),
    Silent(String),
    Late(String, u64),
    Garble(String),
    /// Of a million answers.
    Lose(u64),
    Heal,
}

impl Command {
    pub(super) fn parse(line: &str) -> Result<Self, String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let owned = |word: &str| word.to_owned();
        Ok(match words.as_slice() {
            ["cut", a, remote] => Self::Cut(owned(a), owned(remote)),
            ["kill", a] => Self::Kill(owned(a)),
            ["restart", a] => Self::Restart(owned(a)),
            ["silent", a] => Self::Silent(owned(a)),
            ["late", a, ms] => {
                let ms = ms.trim_end_matches("ms").parse().ok().filter(|ms| *ms <= 3_600_000);
                Self::Late(owned(a), ms.ok_or_else(|| format!("{line:?}: late by how many milliseconds?"))?)
            }
            ["garble", a] => Self::Garble(owned(a)),
            ["lose", percent] => {
                let percent = percent.trim_end_matches('%').parse::<f64>().ok();
                let percent = percent.filter(|percent| (0.0..=100.0).contains(percent));
                let percent = percent.ok_or_else(|| format!("{line:?}: lose how many percent?"))?;
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1,000,000")]
                let per_million = (percent * 10_000.0).round() as u64;
                Self::Lose(per_million)
            }
            ["heal"] => Self::Heal,
            _ => return Err(format!("{line:?} is not understood; `help` lists what is")),
        })
    }
}

impl World {
    /// Who says goodbye before a command is obeyed.
    pub(super) fn goodbyes(&self, command: &Command) -> Vec<usize> {
        let Command::Restart(who) = command else { return Vec::new() };
        let servers = self.select(who).unwrap_or_default();
        if servers.contains(&HOST) { Vec::new() } else { servers }
    }

    /// Does what was asked, now, and tells to which servers.
    pub(super) fn obey(&mut self, command: &Command, now: u64) -> Result<Vec<usize>, String> {
        Ok(match command {
            Command::Cut(from, remote) => {
                let cluster = self.clusters.iter().position(|c| c.name == *remote);
                let cluster = cluster.ok_or_else(|| format!("there is no cluster {remote}"))?;
                let servers = self.select(from)?;
                let cut: Vec<usize> = servers.into_iter().filter(|index| self.cut(*index, cluster)).collect();
                if cut.is_empty() {
                    return Err(format!("{from} has no gateway to {remote}"));
                }
                cut
            }
            Command::Kill(who) | Command::Restart(who) => {
                let servers = self.select(who)?;
                if servers.contains(&HOST) {
                    let host = self.server(HOST).map_or("", |host| &host.name);
                    return Err(format!("{host} is the one that clients are connected to: it cannot end"));
                }
                let restart = matches!(command, Command::Restart(_));
                for index in &servers {
                    if restart { self.restart(*index, now) } else { self.kill(*index, now) }
                }
                servers
            }
            Command::Silent(who) => self.fault(who, |fault| fault.silent_since = Some(now))?,
            Command::Garble(who) => self.fault(who, |fault| fault.garbles = true)?,
            Command::Late(who, ms) => self.fault(who, |fault| fault.late_ms = *ms)?,
            Command::Lose(_) => Vec::new(),
            Command::Heal => {
                self.heal(now);
                Vec::new()
            }
        })
    }

    /// Changes what is wrong with some servers: a server, those of a cluster, or as many as a number says.
    fn fault(&mut self, who: &str, change: impl Fn(&mut Fault)) -> Result<Vec<usize>, String> {
        let chosen = match who.parse::<usize>() {
            Ok(number) => self.choose(number)?,
            Err(_) => self.select(who)?,
        };
        for index in &chosen {
            if let Some(server) = self.servers.get_mut(*index) {
                change(&mut server.fault);
            }
        }
        Ok(chosen)
    }

    /// So many of those that nothing is wrong with, and never the one that clients are connected to.
    fn choose(&mut self, number: usize) -> Result<Vec<usize>, String> {
        let sound = |index: &usize| {
            *index != HOST && self.server(*index).is_some_and(|s| s.alive && s.fault == Fault::default())
        };
        let mut left: Vec<usize> = (0..self.servers.len()).filter(sound).collect();
        if left.len() < number {
            return Err(format!("only {} servers have no fault", left.len()));
        }
        let mut chosen: Vec<usize> = Vec::new();
        for _ in 0..number {
            chosen.push(left.swap_remove(self.chance.below(left.len())));
        }
        chosen.sort_unstable();
        Ok(chosen)
    }

    fn select(&self, name: &str) -> Result<Vec<usize>, String> {
        if let Some(cluster) = self.clusters.iter().find(|c| c.name == name) {
            return Ok(cluster.servers.clone().collect());
        }
        let server = self.servers.iter().position(|s| s.name == name);
        server.map(|index| vec![index]).ok_or_else(|| format!("there is no server or cluster {name}"))
    }
}
