"""A careful application on paho-mqtt 1.6: MQTT 3.1.1, persistent session, QoS 1.

Arguments: port, user, password, topic filter. Orders come in as lines: connect, disconnect,
publish TOPIC PAYLOAD. What happens goes out as lines.
"""
import base64
import json
import sys

import paho.mqtt.client as mqtt

port, user, password, topic_filter = sys.argv[1:]


def say(*words):
    print(*words, flush=True)


def on_connect(client, _data, flags, code):
    if code != 0:
        say("refused", code)
        return
    client.present = flags["session present"]
    if client.present:
        say("subscribed, session present: 1")
    else:
        client.subscribe(topic_filter, qos=1)


def on_message(_client, _data, message):
    say("up", base64.b64decode(json.loads(message.payload)["data"]).decode())


client = mqtt.Client(client_id="careful", clean_session=False)
client.username_pw_set(user, password)
client.on_connect = on_connect
client.on_subscribe = lambda *_: say("subscribed, session present: 0")
client.on_message = on_message
client.on_publish = lambda *_: say("published")
client.connect("127.0.0.1", int(port))
client.loop_start()
for line in sys.stdin:
    order, _, rest = line.strip().partition(" ")
    if order == "connect":
        client.connect("127.0.0.1", int(port))
        client.loop_start()
    elif order == "disconnect":
        client.disconnect()
        client.loop_stop()
        say("disconnected")
    elif order == "publish":
        topic, _, payload = rest.partition(" ")
        client.publish(topic, payload, qos=1)
