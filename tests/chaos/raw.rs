//! HTTP/1.1 by hand.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::ledger::{Dice, bytes};
use super::node::Town;

/// Writes HTTP/1.1 by hand, and not always well.
pub async fn raw(town: &Town, mut stream: TcpStream, dice: &mut Dice) -> std::io::Result<()> {
    let ledger = &town.ledger;
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let number = |name: &str| -> Option<u64> {
            let line = head.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().parse().ok()
        };
        let Some(id) = number("x-id:") else {
            ledger.wrong(format!("not a request: {head}"));
            return Ok(());
        };
        let receipt = ledger.received(id);
        let salt = id << 8 | receipt as u64 & 0xff;
        let len = dice.below(3000) as usize;
        let body = bytes(salt, 0, len);
        let facts = format!("x-salt: {salt}\r\nx-len: {len}\r\nx-period: 0\r\n");
        let mut answer =
            format!("HTTP/1.1 200 OK\r\n{facts}content-length: {len}\r\n\r\n").into_bytes();
        let end_of_head = answer.len();
        answer.extend(&body);
        let trick = dice.below(8);
        match trick {
            // It ends somewhere.
            0 => answer.truncate(dice.below(answer.len() as u64) as usize),
            // More than one answer to one request. hyper does not see the end of a connection behind bytes that it has not
            // asked for, so a streaming upload would keep it for as long as it lasts.
            1 if head.contains("content-length:") => answer.extend_from_within(..),
            2 => {
                let mut with_hints =
                    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n".to_vec();
                with_hints.extend(answer);
                answer = with_hints;
            }
            // Chunks, of which the last one is missing, or is none.
            3 | 4 => {
                answer = format!("HTTP/1.1 200 OK\r\n{facts}transfer-encoding: chunked\r\n\r\n")
                    .into_bytes();
                answer.extend(format!("{len:x}\r\n").bytes());
                answer.extend(&body);
                answer.extend(if trick == 3 {
                    &b"\r\n"[..]
                } else {
                    b"\r\nzz\r\n"
                });
            }
            5 => answer = b"SSH-2.0-OpenSSH_9.6\r\n".to_vec(),
            6 => answer[end_of_head - 3] = b'\n',
            _ => {}
        }
        ledger.count(format!("server: raw {trick}"));
        // A piece now, and the rest later.
        let (now, later) = answer.split_at(dice.below(answer.len() as u64 + 1) as usize);
        stream.write_all(now).await?;
        sleep(Duration::from_millis(dice.below(20))).await;
        stream.write_all(later).await?;
        let kept = trick == 7 && head.starts_with("GET") && head.contains("content-length: 0\r\n");
        if !kept {
            // Neither reads what it was still to be sent, nor closes at once.
            stream.shutdown().await?;
            sleep(Duration::from_millis(dice.below(50))).await;
            return Ok(());
        }
    }
}
