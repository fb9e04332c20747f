#!/usr/bin/env bash
# irec launch configs/movietweetings_tiny.py --on tpu-vm --out runs/movietweetings_tiny --topology v5e:4x4 --spot --bucket my-bucket --project my-project --zone us-west4-a
#
# From a wheel and a config to a finished run, with a new attempt after each preemption: each
# attempt resumes from the newest checkpoint in the bucket. The machines run without this script;
# after an interruption, start it again, and it finds them. Its commands also work one by one.
# Before: launch/README.md, "Cloud TPU VM", 1 to 4.
set -uo pipefail

state() {
  gcloud compute tpus queued-resources describe movietweetings-tiny --project=my-project --zone=us-west4-a '--format=value(state.state)' 2> /dev/null || echo NONE
}

# 1. Copy the inputs of the run into the bucket.
gcloud storage cp dist/irec_jax-0.1.0-py3-none-any.whl gs://my-bucket/dist/irec_jax-0.1.0-py3-none-any.whl
gcloud storage cp configs/movietweetings_tiny.py gs://my-bucket/configs/movietweetings_tiny.py
gcloud storage rsync data/movietweetings gs://my-bucket/data/movietweetings --recursive

for attempt in $(seq 101); do
  # 2. Request the slice, once; a request that is not granted within 24h costs nothing.
  if [ "$(state)" = NONE ]; then
    gcloud compute tpus queued-resources create movietweetings-tiny --project=my-project --zone=us-west4-a --node-id=movietweetings-tiny --accelerator-type=v5litepod-16 --runtime-version=v2-alpha-tpuv5-lite --scopes=https://www.googleapis.com/auth/cloud-platform --valid-until-duration=24h --spot || exit 1
  fi

  # 3. Wait for the slice.
  until [ "$(state)" = ACTIVE ]; do
    case "$(state)" in SUSPENDED | FAILED) break ;; esac
    sleep 30
  done

  code=75
  if [ "$(state)" = ACTIVE ]; then
    # 4. On every host, unless the run is running: gcsfuse, the bucket, Python, irec, the run.
    code=0
    if ! gcloud compute tpus queued-resources ssh movietweetings-tiny --project=my-project --zone=us-west4-a --node=all --worker=all '--command=[ "$(systemctl show irec --property=SubState --value)" = running ]'; then
      gcloud compute tpus queued-resources ssh movietweetings-tiny --project=my-project --zone=us-west4-a --node=all --worker=all '--command=set -eu
curl -fsSL https://packages.cloud.google.com/apt/doc/apt-key.gpg | sudo tee /usr/share/keyrings/cloud.google.asc > /dev/null
echo "deb [signed-by=/usr/share/keyrings/cloud.google.asc] https://packages.cloud.google.com/apt gcsfuse-$(lsb_release -cs) main" | sudo tee /etc/apt/sources.list.d/gcsfuse.list > /dev/null
sudo apt-get -o DPkg::Lock::Timeout=300 update
sudo apt-get -o DPkg::Lock::Timeout=300 install -y gcsfuse
sudo mkdir -p /mnt/irec /opt/irec
sudo chown "$(id -u):$(id -g)" /mnt/irec /opt/irec' &&
      gcloud compute tpus queued-resources ssh movietweetings-tiny --project=my-project --zone=us-west4-a --node=all --worker=all '--command=mountpoint -q /mnt/irec || { sudo systemctl reset-failed irec-bucket 2> /dev/null; sudo systemd-run --unit=irec-bucket --uid=$USER --property=After=network-online.target gcsfuse --foreground --implicit-dirs --metadata-cache-ttl-secs=0 --metadata-cache-negative-ttl-secs=0 my-bucket /mnt/irec && timeout 60 sh -c '"'"'until mountpoint -q /mnt/irec; do sleep 1; done'"'"'; }' &&
      gcloud compute tpus queued-resources ssh movietweetings-tiny --project=my-project --zone=us-west4-a --node=all --worker=all '--command=set -eu
curl -LsSf https://astral.sh/uv/install.sh | sh
~/.local/bin/uv venv --clear --python 3.12 /opt/irec
~/.local/bin/uv pip install --python /opt/irec/bin/python '"'"'/mnt/irec/dist/irec_jax-0.1.0-py3-none-any.whl[tpu]'"'"'' &&
      gcloud compute tpus queued-resources ssh movietweetings-tiny --project=my-project --zone=us-west4-a --node=all --worker=all '--command=sudo systemctl stop irec 2> /dev/null; sudo systemctl reset-failed irec 2> /dev/null; sudo systemd-run --unit=irec --uid=$USER --working-directory=/mnt/irec --property=Requires=irec-bucket.service --property=After=irec-bucket.service --property=KillMode=mixed --property=TimeoutStopSec=300 --property=RemainAfterExit=yes --property=LimitNOFILE=65536 --setenv=IREC_DISTRIBUTED=auto -- /opt/irec/bin/irec tune configs/movietweetings_tiny.py --out runs/movietweetings_tiny --take-over' ||
      code=2
    fi

    # 5. Wait for the end of the run or of the slice. To follow the output, in another terminal:
    #    gcloud compute tpus queued-resources ssh movietweetings-tiny --project=my-project --zone=us-west4-a --node=0 --worker=0 '--command=sudo journalctl --unit=irec --follow --output=cat'
    if [ "$code" = 0 ]; then
      while [ "$(state)" = ACTIVE ] && ! gcloud compute tpus queued-resources ssh movietweetings-tiny --project=my-project --zone=us-west4-a --node=0 --worker=0 '--command=[ "$(systemctl show irec --property=SubState --value)" != running ]'; do
        sleep 60
      done
      gcloud compute tpus queued-resources ssh movietweetings-tiny --project=my-project --zone=us-west4-a --node=0 --worker=0 '--command=[ $(systemctl show irec --property=LoadState --value) = loaded ] || exit 75
exit $(systemctl show irec --property=ExecMainStatus --value)'
      code=$?
    fi
    [ "$(state)" = ACTIVE ] || code=75
  fi

  # 6. Delete the slice: it costs money until this is done.
  gcloud compute tpus queued-resources delete movietweetings-tiny --project=my-project --zone=us-west4-a --force --quiet

  # 7. 2 is an error that a restart would repeat; other codes resume from the newest checkpoint.
  case $code in 0 | 2) break ;; esac
done

# 8. Fetch the run. Then: irec evaluate runs/movietweetings_tiny
gcloud storage rsync gs://my-bucket/runs/movietweetings_tiny runs/movietweetings_tiny --recursive
exit "$code"
