//! Who gives way when a server is full.

use super::*;

#[tokio::test(start_paused = true)]
async fn full_server_serves_only_health() {
    let server = start(1).await;
    let mut busy = server.connect().await;
    busy.write_all(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    sleep(SECOND).await;
    for (path, status) in [("/healthz", "HTTP/1.1 200"), ("/", "HTTP/1.1 503")] {
        let mut stream = server.connect().await;
        assert_eq!(send_get(&mut stream, path).await.unwrap(), status);
        let mut rest = String::new();
        stream.read_to_string(&mut rest).await.unwrap();
        assert!(rest.contains("connection: close"), "{rest}");
    }
    // Those that send nothing do not keep it from health for long.
    let mut silent = Vec::new();
    for _ in 0..2 * RESERVED_CONNECTIONS {
        silent.push(server.connect().await);
    }
    let mut stream = server.connect().await;
    let answered = send_get(&mut stream, "/healthz").await.unwrap();
    assert_eq!(answered, "HTTP/1.1 200");
    let begun = Instant::now();
    let mut last = silent.pop().unwrap();
    assert_eq!(last.read(&mut [0]).await.unwrap(), 0);
    assert!(begun.elapsed() <= RESERVED_AGE + 3 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn closes_a_stalled_connection_to_make_room() {
    let server = start(1).await;
    let mut stalled = server.connect().await;
    stalled
        .write_all(b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n")
        .await
        .unwrap();
    sleep(SECOND).await;
    let mut stream = server.connect().await;
    assert_eq!(send_get(&mut stream, "/").await.unwrap(), "HTTP/1.1 200");
    // Closed, by whatever means.
    let _ = stalled.read(&mut [0]).await;
}

#[tokio::test(start_paused = true)]
async fn panic_removes_the_connection_from_the_table() {
    let server = start(1).await;
    let mut stream = server.connect().await;
    assert!(send_get(&mut stream, "/panic").await.is_err());
    let mut stream = server.connect().await;
    assert_eq!(send_get(&mut stream, "/").await.unwrap(), "HTTP/1.1 200");
}

#[tokio::test(start_paused = true)]
async fn closes_a_connection_after_repeated_rejections() {
    let server = start(16).await;
    let (mut client, ended) = server.http2().await;
    let mut stalled = Vec::new();
    for round in 0..MAX_REJECTED {
        assert!(!ended.is_finished(), "{round}");
        stalled.push(tokio::spawn(client.send_request(unfinished())));
        if round == MAX_REJECTED / 2 {
            sleep(STALL_TIMEOUT + 2 * SECOND).await;
            let response = client.send_request(request("/")).await.unwrap();
            text(response).await;
        }
    }
    sleep(SECOND).await;
    for _ in 0..=MAX_REJECTED {
        sleep(STALL_TIMEOUT + 2 * SECOND).await;
        let _ = client.ready().await;
        stalled.push(tokio::spawn(client.send_request(unfinished())));
    }
    timeout(STALL_TIMEOUT + 2 * SECOND, ended)
        .await
        .unwrap()
        .unwrap();
}
